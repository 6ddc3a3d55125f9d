//! Apply: documents become schedules.
//!
//! A document is applied only when its version is higher than the one held, under the lock of the transaction; so
//! repeats and stragglers change nothing. What was due under an agent's old timing is settled before its new timing
//! begins. Other edits leave the next tick alone.

use chrono::{DateTime, Utc};
use model::document::{Agent, Document, DocumentKind, HeldDocument, Subject, version_time};
use model::id::AgentId;
use service_kit::database::DbConnection;

use crate::chain::leave;
use crate::error::DispatchError;
use crate::fire::{Fired, fire};
use crate::plan::{Timing, planning_start};
use crate::store::schedules::{self, Schedule};
use crate::store::{arrivals, documents};

/// What a batch of documents came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What is held now, for the registry to know.
    pub(crate) held: Vec<HeldDocument>,
    /// What was due under old timings.
    pub(crate) fired: Vec<Fired>,
}

/// Applies documents, those that others lean on first.
///
/// An agent without its mentor or organisation is not held: the registry announces it again, by then they have come.
pub(crate) fn apply(
    conn: &mut DbConnection,
    documents: &[Document],
    now: DateTime<Utc>,
) -> Result<Applied, DispatchError> {
    let mut ordered: Vec<&Document> = documents.iter().collect();
    ordered.sort_by_key(|document| (document.kind(), document.version));
    let mut applied = Applied::default();
    for document in ordered {
        let (kind, key) = (document.kind(), document.key());
        let held = documents::held_version(conn, kind, &key)?;
        let mut version = held.unwrap_or_default();
        if document.version > version {
            if !leans_on_held(conn, document)? {
                tracing::info!(document.kind = %kind, document.key = key, "document came before what it leans on");
                continue;
            }
            applied.fired.extend(apply_one(conn, document, now)?);
            version = document.version;
        }
        let next_fire_time = match kind {
            DocumentKind::Agent => next_fire_time(conn, &key)?,
            DocumentKind::Organisation | DocumentKind::Mentor => None,
        };
        applied.held.push(HeldDocument { kind, key, version, next_fire_time });
    }
    Ok(applied)
}

fn leans_on_held(conn: &mut DbConnection, document: &Document) -> Result<bool, DispatchError> {
    let Subject::Agent(agent) = &document.subject else { return Ok(true) };
    let mentor = documents::held_version(conn, DocumentKind::Mentor, &agent.mentor_id.to_string())?;
    let organisation = documents::held_version(conn, DocumentKind::Organisation, document.organisation.as_str())?;
    Ok(mentor.is_some() && organisation.is_some())
}

fn apply_one(conn: &mut DbConnection, document: &Document, now: DateTime<Utc>) -> Result<Option<Fired>, DispatchError> {
    match &document.subject {
        Subject::Agent(agent) => {
            let fired = settle_old_timing(conn, document, agent, now)?;
            documents::put(conn, document, now)?;
            plan(conn, agent, now)?;
            Ok(fired)
        }
        Subject::AgentDeleted(AgentId(id)) => {
            documents::put(conn, document, now)?;
            leave(conn, *id)?;
            schedules::delete(conn, *id)?;
            Ok(None)
        }
        Subject::Organisation(_) | Subject::Mentor(_) | Subject::MentorDeleted(_) => {
            documents::put(conn, document, now)?;
            Ok(None)
        }
    }
}

/// Fires what was due before the edit, as the agent was then.
fn settle_old_timing(
    conn: &mut DbConnection,
    document: &Document,
    agent: &Agent,
    now: DateTime<Utc>,
) -> Result<Option<Fired>, DispatchError> {
    let Some(schedule) = schedules::lock(conn, agent.id.0)? else { return Ok(None) };
    let replans = agent.schedule.timing_version > schedule.timing_version || !fires_by_itself(agent);
    let edited_at = version_time(document.version).min(now);
    if replans && schedule.next_fire_at.is_some_and(|due| due <= edited_at) {
        return Ok(Some(fire(conn, vec![schedule], edited_at, now)?));
    }
    Ok(None)
}

/// Brings the schedule's row to what the document says.
fn plan(conn: &mut DbConnection, agent: &Agent, now: DateTime<Utc>) -> Result<(), DispatchError> {
    let timing_version = agent.schedule.timing_version;
    let known = schedules::lock(conn, agent.id.0)?;
    let mut schedule = known.unwrap_or(Schedule {
        agent_id: agent.id.0,
        timing_version: 0,
        next_fire_at: None,
        fired_through: DateTime::UNIX_EPOCH,
        finished: false,
        calls_back: false,
        sequence: 0,
        follows: None,
    });
    let follows = agent.previous.filter(|_| agent.schedule.enabled);
    if follows != schedule.follows {
        leave(conn, agent.id.0)?;
        schedule.follows = follows;
        schedule.next_fire_at = None;
    }
    schedule.calls_back = agent.endpoint.is_some();
    // Read even if it does not fire now: a crontab that cannot be read is refused when it comes, not when it is due.
    let view = documents::Directory::load(conn, &[agent.id.0])?;
    let zone = view.agent(agent.id.0).map(|view| view.zone).unwrap_or_default();
    let timing = Timing::of(agent, zone).map_err(|error| DispatchError::Crontab(agent.id, error))?;
    if timing_version > schedule.timing_version {
        schedule.timing_version = timing_version;
        schedule.finished = false;
        schedule.next_fire_at = timing.first_after(planning_start(timing_version, schedule.fired_through));
    }
    if schedule.finished || !fires_by_itself(agent) {
        schedule.next_fire_at = None;
    }
    if schedule.follows.is_some() && !schedule.finished && arrivals::is_waiting(conn, agent.id.0)? {
        schedule.next_fire_at = timing.first_allowed(now);
    }
    schedules::put(conn, &schedule)?;
    Ok(())
}

/// Whether its crontab alone makes it fire.
fn fires_by_itself(agent: &Agent) -> bool {
    agent.schedule.enabled && agent.previous.is_none()
}

fn next_fire_time(conn: &mut DbConnection, key: &str) -> Result<Option<DateTime<Utc>>, DispatchError> {
    let Ok(agent_id) = key.parse() else { return Ok(None) };
    let schedule = schedules::load(conn, &[agent_id])?.pop();
    Ok(schedule.and_then(|schedule| schedule.next_fire_at))
}
