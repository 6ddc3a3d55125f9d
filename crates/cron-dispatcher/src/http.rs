//! Internal HTTP: what the registry asks. Bodies are the protobuf messages of the bus contract.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use model::id::{AgentId, RunId};
use model::internal::TriggerRequest;
use model::wire::Wire;
use serde::Deserialize;
use service_kit::error::ApiError;

use crate::announce::announcements;
use crate::context::Context;
use crate::error::DispatchError;
use crate::fire;
use crate::store::ticks;
use crate::trigger::trigger;

/// Most ticks on one page.
const PAGE_SIZE_MAX: i64 = 100;

/// The routes, to be mounted under `/internal`.
pub(crate) fn routes(config: &mut web::ServiceConfig, context: &Arc<Context>) {
    config
        .app_data(web::Data::from(Arc::clone(context)))
        .route("/runs", web::post().to(post_run))
        .route("/runs/{id}", web::get().to(get_run))
        .route("/agents/{id}/ticks", web::get().to(list_ticks));
}

/// `POST /internal/runs`: makes a run now. Answers with its record; 404 for an agent that is not known.
async fn post_run(context: web::Data<Context>, body: web::Bytes) -> Result<HttpResponse, ApiError> {
    let asked = TriggerRequest::decode(&body)
        .map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, service_kit::error::chain(&error)))?;
    let now = context.clock.now();
    let (record, applied) = context.db.write(move |conn| trigger(conn, &asked, now)).await?;
    applied.fired.iter().for_each(fire::count);
    tracing::info!(
        run.id = %record.run.id, agent.id = %record.run.agent_id, organisation = %record.run.organisation,
        "run triggered"
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

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    page: Option<i64>,
    #[serde(default)]
    page_size: Option<i64>,
}

/// `GET /internal/agents/{id}/ticks?page=&page_size=`: newest first.
async fn list_ticks(
    context: web::Data<Context>,
    id: web::Path<AgentId>,
    page: web::Query<Page>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner().0;
    let limit = page.page_size.unwrap_or(25).clamp(1, PAGE_SIZE_MAX);
    let offset = (page.page.unwrap_or(1).max(1) - 1).saturating_mul(limit);
    let found = context.db.read(move |conn| ticks::page(conn, id, offset, limit).map_err(DispatchError::from)).await?;
    Ok(protobuf(&found))
}

fn protobuf<T: Wire>(value: &T) -> HttpResponse {
    HttpResponse::Ok().content_type("application/x-protobuf").body(value.encode())
}

impl From<DispatchError> for ApiError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::UnknownAgent(_) => Self::not_found(),
            DispatchError::MentorDeleted(_) => Self::conflict(error.to_string()),
            DispatchError::Database(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}
