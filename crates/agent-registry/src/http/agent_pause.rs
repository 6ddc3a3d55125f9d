//! `P/periodic-agents/{id}/pause/` and `…/resume/`: an operator stops an agent, with a note, and lets it go on.
//!
//! Stored and announced like any edit, and then handed to the dispatcher, so that it holds when the answer comes. With
//! the dispatcher away it is stored all the same, the answer is a 503, and it holds as soon as the dispatcher is back.

use std::sync::Arc;

use actix_web::HttpResponse;
use model::document::Document;
use service_kit::database::DbConnection;
use service_kit::error::ApiError;

use super::agents::view_of;
use super::of_agent::{AgentParts, OfAgent};
use crate::access::Acting;
use crate::audit;
use crate::documents::Written;
use crate::edit;
use crate::state::State;
use crate::store::agents;
use crate::store::documents as stored_documents;
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::form;
use crate::validation::organisation::{CATCH_UPS, NOTE_CHARS_MAX};

/// What an operator wants.
enum Order {
    Pause { note: String },
    Resume { catch_up: Option<&'static str> },
}

/// `POST P/periodic-agents/{id}/pause/` `{note?}`
pub(super) async fn pause_agent(parts: AgentParts) -> Result<HttpResponse, ApiError> {
    let asked = OfAgent::read(parts, form::PAUSE).await?;
    let faults = Faults::default();
    let fields = Fields::of(&asked.body, Presence::Partial, &faults);
    let note = fields.as_ref().and_then(|fields| fields.text("note", Text::OPTIONAL.max(NOTE_CHARS_MAX)));
    faults.into_errors().into_result()?;
    obey(asked, Order::Pause { note: note.unwrap_or_default() }).await
}

/// `POST P/periodic-agents/{id}/resume/` `{catch_up?}`
pub(super) async fn resume_agent(parts: AgentParts) -> Result<HttpResponse, ApiError> {
    let asked = OfAgent::read(parts, form::PAUSE).await?;
    let faults = Faults::default();
    let fields = Fields::of(&asked.body, Presence::Partial, &faults);
    let catch_up = fields.as_ref().and_then(|fields| fields.choice("catch_up", &CATCH_UPS));
    faults.into_errors().into_result()?;
    obey(asked, Order::Resume { catch_up }).await
}

async fn obey(asked: OfAgent, order: Order) -> Result<HttpResponse, ApiError> {
    let OfAgent { state, acting, id, .. } = asked;
    let organisation = acting.organisation.clone();
    let writer = Arc::clone(&state);
    let stored = state.db.write(move |conn| change(conn, &writer, &acting, id, order));
    let (written, documents) = stored.await?;
    state.outbox.announce(written);
    state.dispatcher.hold(documents).await?;
    let view = state.db.read(move |conn| view_of(conn, &organisation, id)).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Stores it. Returns what is to be announced, and what the dispatcher must hold to obey.
fn change(
    conn: &mut DbConnection,
    state: &State,
    acting: &Acting,
    id: i64,
    order: Order,
) -> Result<(Written, Vec<Document>), ApiError> {
    let now = state.clock.now();
    let found = agents::find_for_update(conn, &acting.organisation, id)?;
    let before = found.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let mut row = before.clone();
    let action = match order {
        Order::Pause { note } => {
            (row.paused, row.paused_note) = (true, note);
            "agent.paused"
        }
        Order::Resume { catch_up } => {
            (row.paused, row.paused_note) = (false, String::new());
            row.resumed_with = catch_up.map(str::to_owned);
            "agent.resumed"
        }
    };
    let written = edit::store(conn, acting, &row, action, &audit::changed_fields(&before, &row), now)?;
    tracing::info!(agent.id = id, organisation = row.organisation, action, "an operator changed an agent");
    let documents = stored_documents::load_with_agent(conn, row.organisation, row.mentor_id, id)?;
    Ok((written, documents))
}
