//! What a schedule will do, and what somebody may do about it: upcoming ticks, a crontab's preview, cancel a run.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use model::crontab::CrontabFields;
use model::document::{Schedule, Subject};
use model::id::{AgentId, RunId};
use model::schedule::{Timing, Upcoming, warnings};
use serde::Serialize;
use serde_json::Value;
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;

use super::body::{self, Form};
use super::logs::answer;
use super::request::{self, Item};
use crate::documents;
use crate::runs::{self, Recorded};
use crate::state::State;
use crate::store::agents;
use crate::store::logs::{self, Log};
use crate::store::organisations;
use crate::validation::agent::{CrontabInput, check_crontab};
use crate::validation::fields::{Faults, Fields, Presence};
use crate::validation::form;
use crate::validation::query::Query;
use crate::validation::time::{BAD_DATETIME, parse, render};

/// Ticks shown, unless the request says how many.
const COUNT: i64 = 5;
/// Most ticks shown.
const COUNT_MAX: i64 = 100;

/// A tick to come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpcomingTick)]
pub(super) struct UpcomingView {
    fire_time: String,
    nominal_time: String,
    local_time: String,
    daylight_saving: Option<&'static str>,
}

impl UpcomingView {
    fn of(tick: Upcoming, zone: Tz) -> Self {
        let local = tick.nominal.with_timezone(&zone);
        Self {
            fire_time: render(tick.fire_time),
            nominal_time: render(tick.nominal),
            local_time: local.to_rfc3339_opts(chrono::SecondsFormat::Secs, false),
            daylight_saving: tick.daylight_saving.map(model::schedule::DaylightSaving::as_str),
        }
    }
}

/// `GET P/periodic-agents/{id}/upcoming/?count=&from=`: the ticks to come, as the agent is now; none of one that does
/// not fire by itself.
pub(super) async fn list_upcoming(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let id = path.id("PeriodicAgent")?;
    let query = request::query(&request);
    let (count, from) = read_range(&query)?;
    let found = state.db.read(move |conn| {
        let row = agents::find(conn, &organisation, id)?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
        let zone = organisations::timezone(conn, &organisation)?.unwrap_or(Tz::UTC);
        Ok::<_, ApiError>((row.fires_by_itself(), documents::of_agent(&row), zone))
    });
    let (fires, subject, zone) = found.await?;
    let mut results = Vec::new();
    if let Subject::Agent(agent) = subject
        && fires
        && let Ok(timing) = Timing::of(&agent, zone)
    {
        let now = state.clock.now();
        let ticks = timing.upcoming(from.map_or(now, |from| from.max(now))).take(count);
        results.extend(ticks.map(|tick| UpcomingView::of(tick, timing.zone())));
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({ "results": results })))
}

fn read_range(query: &Query) -> Result<(usize, Option<DateTime<Utc>>), ApiError> {
    let mut errors = FieldErrors::new();
    // What is no number is reported as such.
    let count = query.integer("count", &mut errors).map_or(COUNT, |count| count.unwrap_or(i64::MAX));
    let count = checked_count(count).unwrap_or_else(|fault| {
        errors.add("count", fault);
        0
    });
    let from = query.text("from").and_then(|text| {
        let moment = parse(text);
        if moment.is_none() {
            errors.add("from", BAD_DATETIME);
        }
        moment
    });
    errors.into_result()?;
    Ok((count, from))
}

fn checked_count(count: i64) -> Result<usize, String> {
    let fault = || format!("Ensure this value is between 1 and {COUNT_MAX}.");
    usize::try_from(count).ok().filter(|_| (1..=COUNT_MAX).contains(&count)).ok_or_else(fault)
}

/// What a crontab means.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CrontabPreview)]
pub(super) struct PreviewView {
    /// In English.
    description: String,
    fire_times: Vec<String>,
    /// The same moments with what the zone's clock shows then.
    ticks: Vec<UpcomingView>,
    warnings: Vec<String>,
}

/// `POST P/crontab/preview/`: what a crontab means, before anything is made of it.
pub(super) async fn preview_crontab(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let body = body::read(&state, &request, payload, Form::whole(form::PREVIEW)).await?;
    let asked = Preview::read(&body)?;
    let timezone = state.db.read(move |conn| Ok::<_, ApiError>(organisations::timezone(conn, &organisation)?));
    let zone = asked.timezone.or(timezone.await?).unwrap_or(Tz::UTC);
    let schedule = Schedule { crontab: asked.crontab, timezone: Some(zone), ..Schedule::default() };
    let timing = Timing::new(&schedule, AgentId(0), zone).map_err(|error| ApiError::internal(&error))?;
    let from = asked.from.unwrap_or_else(|| state.clock.now());
    let ticks: Vec<UpcomingView> =
        timing.upcoming(from).take(asked.count).map(|tick| UpcomingView::of(tick, zone)).collect();
    let view = PreviewView {
        description: timing.describe(),
        fire_times: ticks.iter().map(|tick| tick.fire_time.clone()).collect(),
        ticks,
        warnings: warnings(&timing, from),
    };
    Ok(HttpResponse::Ok().json(view))
}

/// What is to be previewed.
struct Preview {
    crontab: CrontabFields,
    timezone: Option<Tz>,
    count: usize,
    from: Option<DateTime<Utc>>,
}

impl Preview {
    fn read(body: &Value) -> Result<Self, ApiError> {
        let faults = Faults::default();
        let mut preview = Self { crontab: CrontabFields::default(), timezone: None, count: 0, from: None };
        if let Some(fields) = Fields::of(body, Presence::Whole, &faults) {
            let outer = CrontabInput::read_timezone(&fields).flatten();
            let input = fields.object("crontab").map(|crontab| CrontabInput::read(&crontab)).unwrap_or_default();
            input.apply(&mut preview.crontab);
            check_crontab(&preview.crontab, "crontab", &faults);
            preview.timezone = input.timezone.flatten().or(outer);
            let count = fields.integer("count").flatten().unwrap_or(COUNT);
            preview.count = checked_count(count).unwrap_or_else(|fault| {
                fields.fault("count", fault);
                0
            });
            preview.from = fields.datetime("from").flatten();
        }
        faults.into_errors().into_result()?;
        Ok(preview)
    }
}

/// `POST P/periodic-agent-logs/{id}/cancel/`: ends a run now; one that has ended stays as it is.
///
/// The log row is written from the answer; a crash before that loses nothing, since the dispatcher records the end
/// like any other.
pub(super) async fn cancel_run(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let id = path.id("PeriodicAgentLog")?;
    let missing = || ApiError::no_such("PeriodicAgentLog");
    let stored = state.db.read(move |conn| Ok::<_, ApiError>(logs::find(conn, id)?)).await?;
    let known = match stored {
        Some(log) => log,
        // One that started this moment may not have been recorded here yet.
        None => state.dispatcher.run(RunId(id)).await?.map(|told| Log::of(told.record)).ok_or_else(missing)?,
    };
    if known.row.organisation != organisation {
        return Err(missing());
    }
    if known.state()?.is_final() {
        return answer(&state, StatusCode::ACCEPTED, known);
    }
    let said_at = state.clock.now();
    let Some(record) = state.dispatcher.cancel(RunId(id)).await? else {
        return answer(&state, StatusCode::ACCEPTED, known);
    };
    let log = Log::of(record.clone());
    let recorder = Arc::clone(&state);
    let stored = state.db.write(move |conn| {
        let mut written = Vec::new();
        runs::record(conn, vec![Recorded { record, said_at }], vec![], recorder.clock.now(), &mut written)?;
        Ok::<_, ApiError>(written)
    });
    state.outbox.announce(stored.await?);
    answer(&state, StatusCode::ACCEPTED, log)
}
