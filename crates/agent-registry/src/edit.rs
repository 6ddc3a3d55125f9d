//! Creating, changing and deleting periodic agents: what a request says, applied to what is stored.
//!
//! Everything happens in the caller's transaction, the documents included: either all of an edit is stored and will
//! be announced, or none of it.

mod apply;
mod create;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::document::{DocumentKind, Subject};
use model::id::AgentId;
use service_kit::database::DbConnection;
use service_kit::error::{ApiError, FieldErrors};

use self::apply::{Mentors, apply};
pub(crate) use self::create::{create, create_one};
use crate::access::Acting;
use crate::audit;
use crate::documents::{self, Providers, Written};
use crate::state::{State, callback_secret_owner};
use crate::store::activity::{self, ActivityRow, News};
use crate::store::agents::{self, AgentRow};
use crate::store::documents::in_order_of_keys;
use crate::store::mentors::MentorRow;
use crate::store::organisations;
use crate::timing;
use crate::validation::agent::{AgentInput, SecretChange};

/// What somebody wants an agent to be.
pub(crate) struct Edit {
    pub(crate) acting: Acting,
    pub(crate) input: AgentInput,
    /// What was wrong with the request by itself.
    pub(crate) errors: FieldErrors,
}

impl Edit {
    /// Whether it has the agent wait for another.
    pub(crate) fn lengthens_a_chain(&self) -> bool {
        matches!(self.input.previous_agent, Some(Some(_)))
    }
}

/// An agent as it was stored.
pub(crate) struct Saved {
    pub(crate) row: AgentRow,
    pub(crate) mentor: Arc<MentorRow>,
    pub(crate) activity: Option<ActivityRow>,
}

/// Changes an agent.
pub(crate) fn change(
    conn: &mut DbConnection,
    state: &State,
    id: i64,
    edit: &Edit,
) -> Result<(Saved, Written), ApiError> {
    let now = state.clock.now();
    let mut written = Written::new();
    if edit.lengthens_a_chain() {
        lock_chains(conn, &edit.acting.organisation)?;
    }
    let before = agents::find_for_update(conn, &edit.acting.organisation, id)?;
    let before = before.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let organisation = organisations::find(conn, &before.organisation)?;
    let organisation = organisation.as_ref();
    let mut row = before.clone();
    let mentor = apply(conn, state, organisation, Some(&before), &mut row, edit, &mut Mentors::default())?;
    row.sealed_callback_secret =
        seal_secret(state, id, &edit.input.callback_secret, before.sealed_callback_secret.clone())?;
    if !matches!(edit.input.callback_secret, SecretChange::Keep) {
        // Only a rotation leaves the secret before it good for a while.
        (row.sealed_previous_secret, row.previous_secret_until) = (None, None);
    }
    row.last_editor.clone_from(&edit.acting.caller);
    row.modified_at = now.into();
    // In the order of `store`: the mentor's document, the agent's, the activity.
    documents::write_mentor(conn, &mentor, Providers::of(organisation, &state.config), now, &mut written)?;
    if timing::changed(&before, &row) {
        row.timing_version = documents::version_after(conn, DocumentKind::Agent, &id.to_string(), now)?;
    }
    agents::update(conn, &row)?;
    documents::write(conn, &row.organisation, documents::of_agent(&row), now, &mut written)?;
    if row.timing_version != before.timing_version || row.fires_by_itself() != before.fires_by_itself() {
        let news = News::fires_next(id, timing::next_fire(organisation, &row, now), now);
        activity::take_over(conn, &[news])?;
    }
    let fields = audit::changed_fields(&before, &row);
    audit::record(conn, &edit.acting, "agent.changed", &id.to_string(), &fields, now)?;
    let activity = activity::by_agents(conn, vec![id])?.remove(&id);
    Ok((Saved { row, mentor, activity }, written))
}

/// Stores a row of which nothing changed that the mentor or the timing depends on, and what is said of it now.
pub(crate) fn store(
    conn: &mut DbConnection,
    acting: &Acting,
    row: &AgentRow,
    action: &str,
    fields: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<Written> {
    let mut written = Written::new();
    agents::update(conn, row)?;
    documents::write(conn, &row.organisation, documents::of_agent(row), now, &mut written)?;
    audit::record(conn, acting, action, &row.id.to_string(), fields, now)?;
    Ok(written)
}

/// Has those who let an agent wait for another take turns: two at once would make a circle that neither sees. Nor does
/// anybody delete the other meanwhile.
fn lock_chains(conn: &mut DbConnection, organisation: &str) -> QueryResult<()> {
    organisations::find_for_update(conn, organisation).map(|_| ())
}

/// Deletes an agent. Those that waited for it wait no more, and are turned off: none may start to fire by itself.
pub(crate) fn delete(conn: &mut DbConnection, state: &State, acting: &Acting, id: i64) -> Result<Written, ApiError> {
    let now = state.clock.now();
    let mut written = Written::new();
    let organisation = &acting.organisation;
    organisations::find_for_update(conn, organisation)?;
    agents::find(conn, organisation, id)?.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let locked = agents::lock_to_delete(conn, &[id])?;
    for one in in_order_of_keys(locked) {
        if one == id {
            documents::write(conn, organisation, Subject::AgentDeleted(AgentId(id)), now, &mut written)?;
            continue;
        }
        let Some(mut row) = agents::find(conn, organisation, one)? else { continue };
        row.previous_agent_id = None;
        row.enabled = false;
        row.last_editor.clone_from(&acting.caller);
        row.modified_at = now.into();
        written.extend(store(conn, acting, &row, "agent.disabled", &["previous_agent", "task.enabled"], now)?);
    }
    agents::delete(conn, id)?;
    audit::record(conn, acting, "agent.deleted", &id.to_string(), &[], now)?;
    Ok(written)
}

pub(crate) fn seal_secret(
    state: &State,
    agent_id: i64,
    change: &SecretChange,
    before: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, ApiError> {
    match change {
        SecretChange::Keep => Ok(before),
        SecretChange::Remove => Ok(None),
        SecretChange::Set(secret) => {
            let (owner, field) = callback_secret_owner(agent_id);
            let sealed = state.keys.seal(secret.expose().as_bytes(), &owner, field);
            sealed.map(Some).map_err(|error| ApiError::internal(&error))
        }
    }
}
