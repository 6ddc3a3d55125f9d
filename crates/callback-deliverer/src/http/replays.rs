//! Replays of many deliveries, as jobs with progress.

use actix_web::HttpResponse;
use actix_web::web::{self, Json};
use serde::{Deserialize, Serialize};
use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::{ApiError, FieldErrors};

use super::Within;
use super::moment::Moment;
use crate::core::Core;
use crate::store::replays::{self, Replay, Wanted};
use crate::words::Status;

/// What may be replayed by a job; what is pending or held comes anyway.
const REPLAYABLE: [Status; 3] = [Status::Exhausted, Status::Delivered, Status::Discarded];

/// What a job is to replay.
#[derive(Debug, Deserialize)]
pub(super) struct ReplayRequest {
    organisation: String,
    periodic_agent: Option<i64>,
    since: Timestamp,
    status: Option<String>,
}

/// A job as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct ReplayView {
    id: i64,
    periodic_agent: Option<i64>,
    since: Moment,
    status: Status,
    /// `running` or `finished`.
    state: &'static str,
    /// How many there were when it began, and how many of them are on their way again.
    total: i64,
    replayed: i64,
    created_at: Moment,
    finished_at: Option<Moment>,
}

/// `POST /internal/replays`: 202 with the job.
pub(super) async fn create_replay(
    core: web::Data<Core>,
    request: Json<ReplayRequest>,
) -> Result<HttpResponse, ApiError> {
    let ReplayRequest { organisation, periodic_agent, since, status } = request.into_inner();
    let word = status.as_deref().unwrap_or(Status::Exhausted.as_str());
    let status = Status::from_word(word).filter(|status| REPLAYABLE.contains(status));
    let Some(status) = status else {
        let mut errors = FieldErrors::default();
        errors.add("status", format!("\"{word}\" is not a valid choice."));
        return Err(errors.into());
    };
    let (wanted, now) =
        (Wanted { organisation, agent_id: periodic_agent, status, since }, Timestamp::from(core.clock.now()));
    let job = core.db.write(move |connection| Ok::<_, DatabaseError>(replays::create(connection, &wanted, now)?));
    let job = job.await?;
    core.enabled.notify_one();
    Ok(HttpResponse::Accepted().json(ReplayView::from(job)))
}

/// `GET /internal/replays/{id}`
pub(super) async fn show_replay(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<Json<ReplayView>, ApiError> {
    let id = super::id(&path)?;
    let found = core.db.read(move |connection| Ok::<_, DatabaseError>(replays::find(connection, id)?)).await?;
    let found = found.filter(|job| within.has(&job.organisation)).ok_or_else(|| ApiError::no_such("Replay"))?;
    Ok(Json(found.into()))
}

impl From<Replay> for ReplayView {
    fn from(job: Replay) -> Self {
        Self {
            id: job.id,
            periodic_agent: job.agent_id,
            since: job.since.into(),
            status: job.status,
            state: if job.finished_at.is_some() { "finished" } else { "running" },
            total: job.total,
            replayed: job.replayed,
            created_at: job.created_at.into(),
            finished_at: job.finished_at.map(Moment::from),
        }
    }
}
