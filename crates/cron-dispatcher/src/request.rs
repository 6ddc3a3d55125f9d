//! Requests: a run as a runner will be sent it, and its way into the queue.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::document::{Mentor, OverlapPolicy};
use model::id::RunId;
use model::run::{Run, RunRequest, RunState, Trigger};
use service_kit::database::DbConnection;

use crate::chain::{Reached, arrive};
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::fairness::Turns;
use crate::prompt::bounded;
use crate::store::documents::AgentView;
use crate::store::queue::{self, NewRun, Request};
use crate::store::{limits, revoked_users, schedules, turns, window};

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

/// What is locked before runs are made, in the order in which everybody locks: schedules, turns, the window.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) turns: Turns,
    /// Whether anybody follows these agents.
    followed: bool,
}

impl Locked {
    /// Locks who follows these agents, and the turns of their organisations.
    pub(crate) fn new(
        conn: &mut DbConnection,
        agent_ids: &[i64],
        organisations: &BTreeSet<&str>,
    ) -> Result<Self, DispatchError> {
        let followed = !schedules::lock_followers(conn, agent_ids)?.is_empty();
        Ok(Self { turns: turns::lock(conn, organisations)?, followed })
    }
}

/// Makes new runs: each gets its turn and its id, and whoever follows a requested run is made ready. They wait in the
/// queue.
pub(crate) fn enqueue(
    conn: &mut DbConnection,
    new: &mut [NewRun],
    locked: Locked,
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    make(conn, new, locked, None, now).map(drop)
}

/// As [`enqueue`], but they are requested already if the window is open to all of them. Returns what is to be published
/// then: not waiting saves each a row's update, and its way through another transaction.
pub(crate) fn enqueue_or_enter(
    conn: &mut DbConnection,
    new: &mut [NewRun],
    locked: Locked,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Vec<Request>, DispatchError> {
    let enters = may_enter(conn, new, config, now)?;
    let requests = make(conn, new, locked, enters.then(|| now + config.overdue(1)), now)?;
    Ok(if enters { requests } else { Vec::new() })
}

fn may_enter(
    conn: &mut DbConnection,
    new: &[NewRun],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<bool, DispatchError> {
    let scopes = || {
        let scopes = |RunRequest { run, mentor, .. }: &RunRequest| {
            limits::scopes(run.organisation.as_str(), mentor.id.0, run.agent_id.0)
        };
        new.iter().flat_map(|one| scopes(&one.request)).collect()
    };
    let organisations = new.iter().map(|one| one.request.run.organisation.as_str()).collect();
    Ok(!new.is_empty()
        && window::is_open(conn, i64::from(config.window), scopes, new.len(), now)?
        && revoked_users::of(conn, &organisations)?.is_empty())
}

fn make(
    conn: &mut DbConnection,
    new: &mut [NewRun],
    Locked { mut turns, followed }: Locked,
    check_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Vec<Request>, DispatchError> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    for run in new.iter_mut() {
        run.turn = turns.take(run.request.run.organisation.as_str());
    }
    turns::put(conn, turns)?;
    // In turn, as from the queue.
    new.sort_by_key(|run| run.turn);
    let requests = queue::insert(conn, new, check_at, now)?;
    if followed {
        let reached = |run: &Run| Reached { agent_id: run.agent_id, run_id: run.id, status: RunState::Pending };
        let reached: Vec<Reached> = new.iter().map(|one| reached(&one.request.run)).collect();
        arrive(conn, &reached, now)?;
    }
    Ok(requests)
}
