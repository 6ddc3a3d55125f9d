//! What only the dispatcher knows or does: trigger a run now, list an agent's ticks.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use model::document::Document;
use model::id::AgentId;
use model::internal::TriggerRequest;
use model::run::{Tick, TickOutcome};
use serde::Serialize;
use serde_json::Value;
use service_kit::database::DbConnection;
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;

use super::logs::LogView;
use super::of_agent::{AgentParts, OfAgent};
use super::page::PageRequest;
use super::request::{self, Item};
use crate::idempotency::{Begun, Repeatable};
use crate::runs::{self, Recorded};
use crate::state::State;
use crate::store::documents;
use crate::store::logs::Log;
use crate::store::{agents, mentors, users};
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::form;
use crate::validation::limits::PROMPT_CHARS_MAX;
use crate::validation::query::Query;
use crate::validation::time::{BAD_DATETIME, parse, render};

/// `POST P/periodic-agents/{id}/run/`: the log of a run made now.
///
/// The agent's documents go along, so that the run is of the agent as this client last saw it. The log row is written
/// from the answer; a crash before that loses nothing, since the dispatcher records the run like any other. With an
/// `Idempotency-Key` a repeat gets the same run, also after such a crash: the dispatcher knows the key.
pub(super) async fn trigger_run(parts: AgentParts) -> Result<HttpResponse, ApiError> {
    let OfAgent { state, request, acting, id, body } = OfAgent::read(parts, form::TRIGGER).await?;
    let operation = format!("periodic-agents/{id}/run");
    let repeatable = Repeatable::read(&state, request.headers(), &acting, &operation, &body)?;
    let mut trigger = read_trigger(&body, AgentId(id))?;
    let organisation = acting.organisation;
    let (beginner, asked) = (Arc::clone(&state), repeatable.clone());
    let begin = move |conn: &mut DbConnection| begin(conn, &beginner, asked.as_ref(), organisation, id);
    let begun = if repeatable.is_some() { state.db.write(begin).await? } else { state.db.read(begin).await? };
    match begun {
        (Begun::Answered(body), _) => return Ok(accepted(body)),
        (Begun::New(token), documents) => (trigger.idempotency_key, trigger.documents) = (token, documents),
    }

    let said_at = state.clock.now();
    let record = state.dispatcher.trigger(&trigger).await?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let view = LogView::try_from(Log::of(record.clone()))?;
    let body = serde_json::to_vec(&view).map_err(|error| ApiError::internal(&error))?;
    let recorder = Arc::clone(&state);
    let stored = state.db.write(move |conn| {
        let mut written = Vec::new();
        if let Some(repeatable) = &repeatable {
            repeatable.answer(conn, &recorder, &body)?;
        }
        runs::record(conn, vec![Recorded { record, said_at }], vec![], recorder.clock.now(), &mut written)?;
        Ok::<_, ApiError>((body, written))
    });
    let (body, written) = stored.await?;
    state.outbox.announce(written);
    Ok(accepted(body))
}

fn accepted(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Accepted().content_type(ContentType::json()).body(body)
}

/// Whether a request was there before; if not, what the dispatcher must know. In one transaction for one that may be
/// repeated: a refusal leaves its key free.
fn begin(
    conn: &mut DbConnection,
    state: &State,
    repeatable: Option<&Repeatable>,
    organisation: String,
    id: i64,
) -> Result<(Begun, Vec<Document>), ApiError> {
    let begun = match repeatable {
        Some(repeatable) => repeatable.begin(conn, state)?,
        None => Begun::New(String::new()),
    };
    let documents = match begun {
        Begun::New(_) => documents_of(conn, organisation, id)?,
        Begun::Answered(_) => Vec::new(),
    };
    Ok((begun, documents))
}

/// What the dispatcher must know of the agent to run it.
fn documents_of(conn: &mut DbConnection, organisation: String, id: i64) -> Result<Vec<Document>, ApiError> {
    let agent = agents::find(conn, &organisation, id)?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    if !users::is_allowed(conn, &organisation, &agent.username)? {
        let text = format!("The user who created this agent, \"{}\", may not have it run any more.", agent.username);
        return Err(ApiError::coded(StatusCode::CONFLICT, "creator_not_allowed", text));
    }
    let mentor = mentors::by_ids(conn, vec![agent.mentor_id])?.remove(&agent.mentor_id);
    if mentor.is_none_or(|mentor| mentor.deleted_at.is_some()) {
        let text = "The mentor of this agent was deleted: give it another one first.";
        return Err(ApiError::coded(StatusCode::CONFLICT, "mentor_deleted", text));
    }
    Ok(documents::load_with_agent(conn, organisation, agent.mentor_id, id)?)
}

fn read_trigger(body: &Value, agent_id: AgentId) -> Result<TriggerRequest, ApiError> {
    let faults = Faults::default();
    let fields = Fields::of(body, Presence::Partial, &faults);
    let prompt = fields
        .as_ref()
        .and_then(|fields| fields.nullable_text("prompt", Text::OPTIONAL.max(PROMPT_CHARS_MAX)))
        .flatten();
    let nominal_time = fields.as_ref().and_then(|fields| fields.datetime("nominal_time")).flatten();
    faults.into_errors().into_result()?;
    let prompt = prompt.filter(|prompt| !prompt.is_empty());
    Ok(TriggerRequest { documents: Vec::new(), agent_id, prompt, nominal_time, idempotency_key: String::new() })
}

/// One planned moment, or a span of them that had no runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tick)]
pub(super) struct TickView {
    fire_time: String,
    nominal_time: String,
    outcome: &'static str,
    reason: Option<&'static str>,
    log_id: Option<i64>,
    /// The end of the span, itself outside of it.
    until: Option<String>,
}

impl From<Tick> for TickView {
    fn from(tick: Tick) -> Self {
        let (outcome, reason, log_id, until): (_, _, _, Option<DateTime<Utc>>) = match tick.outcome {
            TickOutcome::Run(id) => ("run", None, Some(id.0), None),
            TickOutcome::Skipped { reason, until } => ("skipped", Some(reason.as_str()), None, Some(until)),
        };
        let (fire_time, nominal_time) = (render(tick.fire_time), render(tick.nominal_time));
        Self { fire_time, nominal_time, outcome, reason, log_id, until: until.map(render) }
    }
}

/// `GET P/periodic-agents/{id}/ticks/`
pub(super) async fn list_ticks(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let id = path.id("PeriodicAgent")?;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let filter = read_tick_filter(&query)?;
    let is_there = state.db.read(move |conn| Ok::<_, ApiError>(agents::exists(conn, &organisation, id)?)).await?;
    if !is_there {
        return Err(ApiError::no_such("PeriodicAgent"));
    }

    let asked = page.nth().unwrap_or(1);
    // The dispatcher may not have heard of a new agent: it has no ticks yet.
    let first = state.dispatcher.ticks(AgentId(id), &filter, asked, page.size).await?;
    let (count, mut ticks) = first.map_or_else(|| (0, Vec::new()), |found| (found.count, found.ticks));
    let page_of = page.of(count)?;
    if page_of.number != asked {
        // Which page is the last shows only in the answer.
        let last = state.dispatcher.ticks(AgentId(id), &filter, page_of.number, page.size).await?;
        ticks = last.map(|found| found.ticks).unwrap_or_default();
    }
    Ok(page_of.answer(&state, &request, &query, ticks.into_iter().map(TickView::from).collect()))
}

/// `outcome=run,skipped`, `from` and `to`, as the dispatcher takes them.
fn read_tick_filter(query: &Query) -> Result<Vec<(&'static str, String)>, ApiError> {
    let (mut errors, mut filter) = (FieldErrors::new(), Vec::new());
    if let Some(outcome) = query.text("outcome") {
        for word in outcome.split(',').filter(|word| !["run", "skipped"].contains(word)) {
            errors.add("outcome", format!("Select a valid choice. {word} is not one of the available choices."));
        }
        filter.push(("outcome", outcome.to_owned()));
    }
    for name in ["from", "to"] {
        let Some(text) = query.text(name) else { continue };
        match parse(text) {
            Some(moment) => filter.push((name, moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))),
            None => errors.add(name, BAD_DATETIME),
        }
    }
    errors.into_result()?;
    Ok(filter)
}
