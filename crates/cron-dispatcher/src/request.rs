//! Requests: a run as a runner will be sent it, and its way into the queue.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::document::{Mentor, OverlapPolicy};
use model::id::RunId;
use model::run::{Run, RunRequest, RunState, Trigger};
use service_kit::database::DbConnection;

use crate::chain::{Reached, arrive};
use crate::error::DispatchError;
use crate::fairness::Turns;
use crate::prompt::bounded;
use crate::store::documents::AgentView;
use crate::store::queue::{self, NewRun};
use crate::store::turns;

/// A run of an agent as it is now; its id comes with its row, its times are its maker's to say.
pub(crate) fn new_run(view: AgentView<'_>, mentor: &Mentor, trigger: Trigger, sequence: i64) -> NewRun {
    let agent = view.agent;
    let request = RunRequest {
        run: Run {
            id: RunId(0),
            organisation: view.organisation.clone(),
            agent_id: agent.id,
            trigger,
            fire_time: DateTime::UNIX_EPOCH,
            nominal_time: DateTime::UNIX_EPOCH,
            sequence,
            run_attempt: 1,
            passed_over: 0,
        },
        mentor: Mentor { system_prompt: bounded(&mentor.system_prompt), ..mentor.clone() },
        prompt: bounded(&agent.prompt),
        username: agent.username.clone(),
        last_editor: agent.last_editor.clone(),
        pathway: agent.pathway.clone(),
        parent_session_id: agent.parent_session_id.clone(),
        parent_mentor_id: agent.parent_mentor_id,
        timeout: agent.schedule.timeout,
        announce_start: false,
    };
    NewRun {
        turn: 0,
        finished_timing_version: None,
        agent_version: view.version,
        max_attempts: agent.schedule.max_attempts.get(),
        exclusive: agent.schedule.overlap != OverlapPolicy::Allow,
        request,
    }
}

/// The turns of these runs' organisations, locked.
pub(crate) fn turns_of(conn: &mut DbConnection, new: &[NewRun]) -> Result<Turns, DispatchError> {
    let organisations: BTreeSet<&str> = new.iter().map(|run| run.request.run.organisation.as_str()).collect();
    Ok(turns::lock(conn, &organisations)?)
}

/// Puts new runs into the queue: each gets its turn and its id, and whoever follows a requested run is made ready.
pub(crate) fn enqueue(
    conn: &mut DbConnection,
    new: &mut [NewRun],
    mut turns: Turns,
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    if new.is_empty() {
        return Ok(());
    }
    for run in new.iter_mut() {
        run.turn = turns.take(run.request.run.organisation.as_str());
    }
    turns::put(conn, turns)?;
    queue::insert(conn, new, now)?;
    let reached: Vec<Reached> = new
        .iter()
        .map(|NewRun { request: RunRequest { run, .. }, .. }| Reached {
            agent_id: run.agent_id,
            run_id: run.id,
            status: RunState::Pending,
        })
        .collect();
    arrive(conn, &reached, now)
}
