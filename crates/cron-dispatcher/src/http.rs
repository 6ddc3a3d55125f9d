//! Internal HTTP: what the registry asks. Bodies are the protobuf messages of the bus contract.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use chrono::{DateTime, TimeDelta, Utc};
use model::event::DocumentChanged;
use model::id::{AgentId, RunId};
use model::internal::TriggerRequest;
use model::run::RunReason;
use model::wire::Wire;
use serde::Deserialize;
use service_kit::database::DbConnection;
use service_kit::error::ApiError;
use service_kit::traces::Place;

use crate::announce::{announce, announcements, stop};
use crate::consumers::hold_documents;
use crate::context::Context;
use crate::error::DispatchError;
use crate::store::ticks::{self, Wanted};
use crate::trigger::trigger;
use crate::{doctor, fire, judge, outcome, pause, traces};

/// Most ticks on one page.
const PAGE_SIZE_MAX: i64 = 100;

/// The routes, to be mounted under `/internal`.
pub(crate) fn routes(config: &mut web::ServiceConfig, context: &Arc<Context>) {
    config
        .app_data(web::Data::from(Arc::clone(context)))
        .route("/runs", web::post().to(post_run))
        .route("/runs/{id}", web::get().to(get_run))
        .route("/runs/{id}/cancel", web::post().to(cancel_run))
        .route("/documents", web::post().to(post_documents))
        .route("/doctor/agents/cron-dispatcher", web::get().to(doctor::list_agents))
        .route("/pause", web::get().to(pause::get))
        .route("/pause", web::put().to(put_pause))
        .route("/agents/{id}/ticks", web::get().to(list_ticks));
}

/// `POST /internal/runs`: makes a run now. Answers with its record; 404 for an agent that is not known.
async fn post_run(context: web::Data<Context>, body: web::Bytes) -> Result<HttpResponse, ApiError> {
    let asked = TriggerRequest::decode(&body)
        .map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, service_kit::error::chain(&error)))?;
    let now = context.clock.now();
    let config = context.config.clone();
    let (record, applied, is_new) = context.db.write(move |conn| trigger(conn, &asked, &config, now)).await?;
    if is_new {
        traces::tick(&context, &record.run, TimeDelta::zero());
    }
    stop(&context, applied.taken_back).await?;
    fire::tell(&context, applied.fired).await?;
    tracing::info!(
        run.id = %record.run.id, agent.id = %record.run.agent_id, organisation = %record.run.organisation,
        trace_id = Place::tick(record.run.id).trace_id(), "run triggered"
    );
    context.schedules_changed.notify_one();
    context.runs_queued.notify_one();
    Ok(protobuf(&record))
}

/// `GET /internal/runs/{id}`: a run as the dispatcher sees it now; 404 once it has forgotten its bytes.
async fn get_run(context: web::Data<Context>, id: web::Path<RunId>) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner().0;
    let found = context.db.read(move |conn| announcements(conn, &[id])).await?.pop();
    found.map(|one| protobuf(&one.record)).ok_or_else(ApiError::not_found)
}

/// `POST /internal/runs/{id}/cancel`: ends a run now, unless it has ended. Answers with its record; 404 once it is
/// forgotten.
async fn cancel_run(context: web::Data<Context>, id: web::Path<RunId>) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner().0;
    let (now, config) = (context.clock.now(), context.config.clone());
    let cancel = move |conn: &mut DbConnection| judge::end_now(conn, &[id], RunReason::Cancelled, &config, now);
    let (cancelled, ended) = context.db.write(cancel).await?;
    outcome::note(&context, &ended, &HashMap::new());
    if !cancelled.is_empty() {
        tracing::info!(run.id = id, trace_id = Place::tick(RunId(id)).trace_id(), "run cancelled");
    }
    stop(&context, cancelled).await?;
    let found = context.db.read(move |conn| announcements(conn, &[id])).await?;
    if !ended.is_empty() {
        announce(&context, found.clone()).await?;
    }
    context.runs_queued.notify_one();
    context.schedules_changed.notify_one();
    found.first().map(|one| protobuf(&one.record)).ok_or_else(ApiError::not_found)
}

/// `POST /internal/documents`: applies documents at once, as if they had come over the bus. Answers with what is held.
async fn post_documents(context: web::Data<Context>, body: web::Bytes) -> Result<HttpResponse, ApiError> {
    let changed = DocumentChanged::decode(&body)
        .map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, service_kit::error::chain(&error)))?;
    Ok(protobuf(&hold_documents(&context, changed.documents).await?))
}

/// `PUT /internal/pause`: pauses or resumes everything.
async fn put_pause(
    context: web::Data<Context>,
    asked: web::Json<pause::PauseRequest>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(pause::put(&context, asked.into_inner()).await?))
}

#[derive(Deserialize)]
struct Page {
    page: Option<i64>,
    page_size: Option<i64>,
    /// `run`, `skipped`, or both with a comma between; all by default.
    outcome: Option<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

impl Page {
    fn wanted(&self) -> Wanted {
        let says = |word| self.outcome.as_ref().is_none_or(|outcome| outcome.split(',').any(|one| one == word));
        Wanted { run: says("run"), skipped: says("skipped"), from: self.from, to: self.to }
    }
}

/// `GET /internal/agents/{id}/ticks?page=&page_size=&outcome=&from=&to=`: newest first.
async fn list_ticks(
    context: web::Data<Context>,
    id: web::Path<AgentId>,
    page: web::Query<Page>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner().0;
    let limit = page.page_size.unwrap_or(25).clamp(1, PAGE_SIZE_MAX);
    let offset = (page.page.unwrap_or(1).max(1) - 1).saturating_mul(limit);
    let (wanted, now) = (page.wanted(), context.clock.now());
    let read =
        move |conn: &mut DbConnection| Ok::<_, DispatchError>(ticks::page(conn, id, wanted, now, (offset, limit))?);
    let found = context.db.read(read).await?;
    Ok(protobuf(&found))
}

fn protobuf<T: Wire>(value: &T) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-protobuf").body(value.encode())
}

impl From<DispatchError> for ApiError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::UnknownAgent(_) => Self::not_found(),
            DispatchError::BadRequest(reason) => Self::detail(StatusCode::BAD_REQUEST, reason),
            DispatchError::MentorDeleted(_) | DispatchError::CreatorNotAllowed(_) => Self::conflict(error.to_string()),
            DispatchError::Database(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}
