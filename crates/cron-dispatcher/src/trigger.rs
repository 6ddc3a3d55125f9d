//! Trigger: a run that somebody asked for. It uses no tick.
//!
//! With a key, its answer is kept in the transaction that makes the run: a crash leaves both or neither, and whoever asks
//! again with the same key gets the same run.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::internal::TriggerRequest;
use model::run::{RunRecord, Trigger};
use service_kit::database::DbConnection;

use crate::announce::announcements;
use crate::apply::{Applied, apply};
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::prompt::with_output;
use crate::request::{Locked, enqueue, new_run};
use crate::store::documents::Directory;
use crate::store::queue::NewRun;
use crate::store::{schedules, triggers};

/// Makes the run, queued; what the registry knows of the agent is applied first. True: it was not there before.
pub(crate) fn trigger(
    conn: &mut DbConnection,
    asked: &TriggerRequest,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(RunRecord, Applied, bool), DispatchError> {
    let applied = apply(conn, &asked.documents, config, now)?;
    let unknown = || DispatchError::UnknownAgent(asked.agent_id);
    let mut schedule = schedules::lock(conn, asked.agent_id.0)?.ok_or_else(unknown)?;
    // Whoever asked at the same time has the schedule until its answer is kept.
    if let Some(record) = triggers::find(conn, &asked.idempotency_key)? {
        return Ok((record, applied, false));
    }
    let directory = Directory::load(conn, &[asked.agent_id.0])?;
    let view = directory.agent(asked.agent_id.0).ok_or_else(unknown)?;
    if !view.creator_allowed {
        return Err(DispatchError::CreatorNotAllowed(asked.agent_id));
    }
    let mentor = view.mentor.ok_or(DispatchError::MentorDeleted(asked.agent_id))?;

    schedule.sequence += 1;
    let mut run = new_run(view, mentor, Trigger::Manual, schedule.sequence);
    let request = &mut run.request;
    request.run.fire_time = now;
    request.run.nominal_time = asked.nominal_time.unwrap_or(now);
    request.announce_start = true;
    // Asked for by hand, it follows nothing.
    request.prompt = with_output(asked.prompt.as_ref().unwrap_or(&view.agent.prompt), "");
    schedules::advance(conn, &[schedule])?;
    let locked = Locked::new(conn, &[asked.agent_id.0], &BTreeSet::from([view.organisation.as_str()]))?;
    let mut new = [run];
    enqueue(conn, &mut new, locked, now)?;

    let [NewRun { request, .. }] = new;
    let made = announcements(conn, &[request.run.id.0])?.pop().ok_or_else(unknown)?;
    if !asked.idempotency_key.is_empty() {
        triggers::insert(conn, &asked.idempotency_key, &made.record, now)?;
    }
    Ok((made.record, applied, true))
}
