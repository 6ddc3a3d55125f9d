//! Chains: an agent that follows another fires when the other's run has come to the status that it waits for.
//!
//! Each such moment of a previous run is one arrival, made in the transaction that brings the run there, and so made
//! once. It makes the follower ready: due at the first moment that its crontab allows. Its fire takes the newest arrival
//! and the output that came with it; arrivals in between are that same fire.

use chrono::{DateTime, Utc};
use model::document::Previous;
use model::id::{AgentId, RunId};
use model::run::{RunState, SkipReason};
use model::schedule::{INSTANT, Span, Timing};
use service_kit::database::DbConnection;

use crate::error::DispatchError;
use crate::settle::skipped;
use crate::store::documents::Directory;
use crate::store::schedules::Schedule;
use crate::store::{arrivals, runs, schedules, ticks};

/// A run of an agent that has come to a status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) agent_id: AgentId,
    pub(crate) run_id: RunId,
    pub(crate) status: RunState,
}

/// Makes ready who follows.
pub(crate) fn arrive(conn: &mut DbConnection, reached: &[Reached], now: DateTime<Utc>) -> Result<(), DispatchError> {
    let previous: Vec<i64> = reached.iter().map(|one| one.agent_id.0).collect();
    let mut followers = if previous.is_empty() { Vec::new() } else { schedules::lock_followers(conn, &previous)? };
    let mut replaced = Vec::new();
    while !followers.is_empty() {
        let ids: Vec<i64> = followers.iter().map(|schedule| schedule.agent_id).collect();
        let (directory, read) = Directory::load_first(conn, &ids)?;
        let left = followers.split_off(read);
        replaced.extend(arrive_at(conn, followers, &directory, reached, now)?);
        followers = left;
    }
    // All at once: piece by piece, they would be locked in another order than everybody's.
    runs::forget_held(conn, &replaced)?;
    Ok(())
}

/// The same for these locked schedules, whose agents are in the directory. Returns the runs of older arrivals, which nobody
/// takes any more.
fn arrive_at(
    conn: &mut DbConnection,
    followers: Vec<Schedule>,
    directory: &Directory,
    reached: &[Reached],
    now: DateTime<Utc>,
) -> Result<Vec<i64>, DispatchError> {
    let (mut ready, mut replaced, mut missed) = (Vec::new(), Vec::new(), Vec::new());
    for mut schedule in followers {
        let newest = reached
            .iter()
            .filter(|one| schedule.follows.is_some_and(|f| f.agent_id == one.agent_id && f.status == one.status))
            .max_by_key(|one| one.run_id);
        let Some(view) = directory.agent(schedule.agent_id) else { continue };
        // By a clock that is behind, the moment would be one of the timing that it had before it followed anybody.
        let now = now.max(schedule.fired_through + INSTANT);
        let Some(newest) = newest else {
            if reached.iter().any(|one| ended_otherwise(schedule.follows, one)) {
                missed.push(skipped(&schedule, view, Span::one(now, SkipReason::PreviousStatus)));
            }
            continue;
        };
        replaced.extend(arrivals::put(conn, schedule.agent_id, newest.run_id)?);
        if schedule.next_fire_at.is_none() && !schedule.finished {
            let timing =
                Timing::of(view.agent, view.zone).map_err(|error| DispatchError::Crontab(view.agent.id, error))?;
            // It waits as before if it waits for something else as well.
            schedule.next_fire_at = timing.first_allowed(now).filter(|_| schedule.waits.is_none());
            ready.push(schedule);
        }
    }
    schedules::advance(conn, &ready)?;
    ticks::skip(conn, &missed, now)?;
    Ok(replaced)
}

/// Whether a run of the agent that is followed has ended, and not in the state that is waited for.
fn ended_otherwise(follows: Option<Previous>, one: &Reached) -> bool {
    follows.is_some_and(|follows| {
        follows.agent_id == one.agent_id
            && follows.status.is_final()
            && one.status.is_final()
            && follows.status != one.status
    })
}

/// The agent follows nobody any more, or somebody else: what it waited to take is let go.
pub(crate) fn leave(conn: &mut DbConnection, agent_id: i64) -> Result<(), DispatchError> {
    if let Some(run_id) = arrivals::drop_of(conn, agent_id)? {
        runs::forget_held(conn, &[run_id])?;
    }
    Ok(())
}
