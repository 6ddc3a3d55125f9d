//! What only the dispatcher knows or does: trigger a run now, list an agent's ticks.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use model::document::{Document, DocumentKind};
use model::id::AgentId;
use model::internal::TriggerRequest;
use model::run::{Tick, TickOutcome};
use serde::Serialize;
use serde_json::Value;
use service_kit::error::{ApiError, FieldErrors};

use super::logs::LogView;
use super::page::PageRequest;
use super::request::{self, Item};
use crate::runs::{self, Recorded};
use crate::state::State;
use crate::store::agents;
use crate::store::documents::{self, DocumentName};
use crate::store::logs::Log;
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::limits::PROMPT_CHARS_MAX;
use crate::validation::query::Query;
use crate::validation::time::{BAD_DATETIME, parse, render};

/// `POST P/periodic-agents/{id}/run/`: the log of a run made now.
///
/// The agent's documents go along, so that the run is of the agent as this client last saw it. The log row is written
/// from the answer; a crash before that loses nothing, since the dispatcher records the run like any other.
pub(super) async fn trigger_run(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let id = path.id("PeriodicAgent")?;
    let body = request::read_json(&state, &request, payload).await?;
    let documents = state.db.read(move |conn| {
        let agent = agents::find(conn, &organisation, id)?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
        let name = |kind, key| DocumentName { kind, key };
        let names = [
            name(DocumentKind::Organisation, organisation),
            name(DocumentKind::Mentor, agent.mentor_id.to_string()),
            name(DocumentKind::Agent, id.to_string()),
        ];
        Ok::<_, ApiError>(documents::load(conn, &names)?)
    });
    let trigger = read_trigger(&body, AgentId(id), documents.await?)?;

    let said_at = state.clock.now();
    let record = state.dispatcher.trigger(&trigger).await?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let log = Log::of(record.clone());
    let recorder = Arc::clone(&state);
    let stored = state.db.write(move |conn| {
        let mut written = Vec::new();
        runs::record(conn, vec![Recorded { record, said_at }], recorder.clock.now(), &mut written)?;
        Ok::<_, ApiError>(written)
    });
    state.outbox.announce(stored.await?);
    Ok(HttpResponse::Accepted().json(LogView::try_from(log)?))
}

fn read_trigger(body: &Value, agent_id: AgentId, documents: Vec<Document>) -> Result<TriggerRequest, ApiError> {
    let faults = Faults::default();
    let fields = Fields::of(body, Presence::Partial, &faults);
    let prompt = fields
        .as_ref()
        .and_then(|fields| fields.nullable_text("prompt", Text::OPTIONAL.max(PROMPT_CHARS_MAX)))
        .flatten();
    let nominal_time = fields.as_ref().and_then(|fields| fields.datetime("nominal_time")).flatten();
    faults.into_errors().into_result()?;
    Ok(TriggerRequest { documents, agent_id, prompt: prompt.filter(|prompt| !prompt.is_empty()), nominal_time })
}

/// One planned moment, or a span of them that had no runs.
#[derive(Debug, Serialize)]
struct TickView {
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
    let agent = state.db.read(move |conn| Ok::<_, ApiError>(agents::find(conn, &organisation, id)?)).await?;
    agent.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;

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
