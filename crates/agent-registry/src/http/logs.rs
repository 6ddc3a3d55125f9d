//! The run log: list, retrieve. What is large is sent as it is read: [`super::log_stream`].

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use model::id::RunId;
use serde::Serialize;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;

use super::agents::mentor_filter;
use super::list::read_list;
use super::log_stream;
use super::page::PageRequest;
use super::request::{self, Item};
use crate::dispatcher::{Told, Unavailable};
use crate::runs::{self, Recorded, status_of};
use crate::state::State;
use crate::store::log_list::{self, LogFilter};
use crate::store::logs::{self, Log};
use crate::store::{agents, log_texts};
use crate::validation::query::Query;
use crate::validation::time::render;

/// What it is called in errors.
const OBJECT: &str = "PeriodicAgentLog";
/// What `status` may narrow a list to.
const STATUSES: [&str; 3] = ["success", "error", "running"];

/// A log as the API shows it; the fields of the original first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PeriodicAgentLog)]
pub(super) struct LogView {
    id: i64,
    content: String,
    status: &'static str,
    start_time: String,
    end_time: Option<String>,
    created_at: String,
    modified_at: String,
    periodic_agent: i64,
    state: String,
    nominal_time: String,
    fire_time: String,
    lateness_ms: i64,
    sequence: i64,
    run_attempt: i32,
    trigger: String,
    reason: Option<String>,
    agent_output: String,
    prompt: String,
    session_id: String,
    usage: UsageView,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    prompt_tokens: i64,
    completion_tokens: i64,
}

impl TryFrom<Log> for LogView {
    type Error = diesel::result::Error;

    fn try_from(log: Log) -> Result<Self, Self::Error> {
        let status = status_of(log.state()?);
        let Log { row, body } = log;
        let time = |stamp: Timestamp| render(stamp.into());
        let changed_at = row.ended_at.or(row.started_at).unwrap_or(row.requested_at);
        let lateness = DateTime::<Utc>::from(row.requested_at) - DateTime::<Utc>::from(row.fire_time);
        Ok(Self {
            id: row.id,
            content: body.content,
            status,
            start_time: time(row.started_at.unwrap_or(row.requested_at)),
            end_time: row.ended_at.map(time),
            created_at: time(row.requested_at),
            modified_at: time(changed_at),
            periodic_agent: row.agent_id,
            state: row.state,
            nominal_time: time(row.nominal_time),
            fire_time: time(row.fire_time),
            lateness_ms: lateness.num_milliseconds().max(0),
            sequence: row.sequence,
            run_attempt: row.run_attempt,
            trigger: row.made_by,
            reason: row.reason,
            agent_output: body.output,
            prompt: body.prompt,
            session_id: row.session_id,
            usage: UsageView { prompt_tokens: row.prompt_tokens, completion_tokens: row.completion_tokens },
        })
    }
}

/// `GET P/periodic-agent-logs/`
pub(super) async fn list_logs(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let asked = query.clone();
    let found = read_list(&state, move |conn| {
        let filter = read_filter(conn, &asked, organisation)?;
        let page = page.of(log_list::count(conn, filter.clone())?)?;
        let ordering = asked.ordering(log_list::ORDERABLE);
        let rows = log_list::page(conn, filter, page.count, &ordering, page.window())?;
        Ok((page, log_texts::beginnings(conn, rows)?))
    });
    let (page, logs) = found.await?;
    if log_stream::is_needed(&logs) {
        let (before, behind) = page.around(&state, &request, &query).map_err(|error| ApiError::internal(&error))?;
        return log_stream::list(&state, before, logs, behind);
    }
    let views = logs.into_iter().map(LogView::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(page.answer(&state, &request, &query, views))
}

/// `GET P/periodic-agent-logs/{id}/`
pub(super) async fn get_log(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let log = find(&state, &organisation, path.id(OBJECT)?).await?.newest()?;
    answer(&state, StatusCode::OK, log)
}

/// What is known of the log of a run.
pub(super) struct Found {
    log: Option<Log>,
    /// The dispatcher, which may know more, did not answer.
    away: Option<Unavailable>,
}

impl Found {
    /// The log, as far as the run has come.
    fn newest(self) -> Result<Log, ApiError> {
        match self {
            Self { log: Some(log), .. } => Ok(log),
            Self { away: Some(away), .. } => Err(away.into()),
            _ => Err(ApiError::no_such(OBJECT)),
        }
    }

    /// The log of a run that has ended. One that has not ended has no content yet.
    pub(super) fn ended(mut self) -> Result<Log, ApiError> {
        if let Some(log) = &self.log
            && !log.state()?.is_final()
        {
            self.log = None;
        }
        self.newest()
    }
}

/// Finds the log of one of the organisation's runs.
///
/// Whoever was called back may ask before the log has arrived here; so what is not here, or not ended, is asked of
/// the dispatcher.
pub(super) async fn find(state: &web::Data<State>, organisation: &str, id: i64) -> Result<Found, ApiError> {
    let stored = find_stored(state, organisation, id).await?;
    if let Some(log) = &stored
        && log.state()?.is_final()
    {
        return Ok(Found { log: stored, away: None });
    }
    match state.dispatcher.run(RunId(id)).await {
        Ok(Some(told)) => Ok(Found { log: taken_over(state, organisation, told).await?, away: None }),
        // It forgets a run once its end is held here, which may have been a moment ago.
        Ok(None) => Ok(Found { log: find_stored(state, organisation, id).await?, away: None }),
        Err(away) => Ok(Found { log: stored, away: Some(away) }),
    }
}

/// A log as it is here; 404 if it is another organisation's, or of an agent that is gone.
async fn find_stored(state: &State, organisation: &str, id: i64) -> Result<Option<Log>, ApiError> {
    let organisation = organisation.to_owned();
    let found = state.db.read(move |conn| {
        let Some(log) = logs::find(conn, id)? else { return Ok(None) };
        let is_there =
            log.row.organisation == organisation && agents::find(conn, &organisation, log.row.agent_id)?.is_some();
        if is_there { Ok(Some(log)) } else { Err(ApiError::no_such(OBJECT)) }
    });
    found.await
}

/// The log of a run as the dispatcher told it. A large one is recorded, as it will be when its message comes, and then
/// sent from here: so its memory is free again, however slowly it is read.
async fn taken_over(state: &web::Data<State>, organisation: &str, told: Told) -> Result<Option<Log>, ApiError> {
    let (id, agent_id) = (told.record.run.id.0, told.record.run.agent_id.0);
    if told.record.run.organisation.as_str() != organisation {
        return Ok(None);
    }
    if !log_texts::is_large(&told.record) {
        let organisation = organisation.to_owned();
        let agent = state.db.read(move |conn| Ok::<_, ApiError>(agents::find(conn, &organisation, agent_id)?)).await?;
        return Ok(agent.map(|_| Log::of(told.record)));
    }
    let recorder = Arc::clone(state);
    let stored = state.db.write(move |conn| {
        let (now, mut written) = (recorder.clock.now(), Vec::new());
        runs::record(conn, vec![Recorded { record: told.record, said_at: now }], vec![], now, &mut written)?;
        Ok::<_, ApiError>(written)
    });
    state.outbox.announce(stored.await?);
    find_stored(state, organisation, id).await
}

/// The answer that shows a log.
pub(super) fn answer(state: &web::Data<State>, status: StatusCode, log: Log) -> Result<HttpResponse, ApiError> {
    if log_stream::is_needed(std::slice::from_ref(&log)) {
        return log_stream::one(state, status, log);
    }
    Ok(HttpResponse::build(status).json(LogView::try_from(log)?))
}

fn read_filter(conn: &mut DbConnection, query: &Query, organisation: String) -> Result<LogFilter, ApiError> {
    let mut errors = FieldErrors::new();
    let text = |name: &str| query.text(name).map(str::to_owned);
    let filter = LogFilter {
        mentor_id: mentor_filter(conn, query, &organisation)?,
        // Text here, unlike in the list of agents: what is no number matches nothing.
        parent_mentor_id: query.text("parent_mentor_id").map(|text| text.parse().ok()),
        parent_session_id: text("parent_session_id"),
        agent_id: query.id("periodic_agent", &mut errors),
        status: query.choice("status", &STATUSES, &mut errors),
        username: text("username"),
        search: query.search(),
        organisation,
    };
    if let Some(agent_id) = filter.agent_id
        && agents::find(conn, &filter.organisation, agent_id)?.is_none()
    {
        Query::no_such("periodic_agent", &mut errors);
    }
    errors.into_result()?;
    Ok(filter)
}
