//! Settle: what becomes of the ticks of locked schedules, in the transaction that locks them.
//!
//! Each tick becomes a run, or a span of skipped ticks with its reason; or it waits, and everything after it: for the end
//! of a pause, or of an earlier run.

mod batch;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use model::run::{RunReason, ScheduleRecord, SkippedTick};
use model::schedule::Span;
use service_kit::database::DbConnection;

use self::batch::Batch;
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::fired::Fired;
use crate::judge;
use crate::request::{enqueue, enqueue_or_enter};
use crate::store::documents::{AgentView, Directory};
use crate::store::queue::NewRun;
use crate::store::schedules::Schedule;
use crate::store::ticks::Skipped;
use crate::store::{arrivals, one_offs, runs, schedules, ticks};
use crate::zones;

/// Up to where ticks are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// All that are due now.
    Now {
        /// Whether runs may enter the window as they are made: somebody is ready to send them.
        enters: bool,
    },
    /// All whose nominal time is not later: what comes after belongs to a pause. What waits for something else, waits on.
    Pause(DateTime<Utc>),
    /// All whose nominal time is not later: what comes after belongs to another timing. None can wait any longer.
    Edit(DateTime<Utc>),
}

/// Settles the ticks of these locked schedules, by the zones that their organisations go by now. Of those that are due
/// now, as many as can be had in memory at once, in their order; the others stay due.
pub(crate) fn fire(
    conn: &mut DbConnection,
    due: Vec<Schedule>,
    through: Through,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<Fired, DispatchError> {
    let (mut fired, mut left) = (Fired::default(), due);
    while !left.is_empty() {
        let (some, unsettled) = fire_some(conn, left, through, now, config)?;
        fired.join(some);
        if matches!(through, Through::Now { .. }) {
            break;
        }
        left = unsettled;
    }
    Ok(fired)
}

/// The first of them, and those that are not settled.
fn fire_some(
    conn: &mut DbConnection,
    mut due: Vec<Schedule>,
    through: Through,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<(Fired, Vec<Schedule>), DispatchError> {
    let agent_ids: Vec<i64> = due.iter().map(|schedule| schedule.agent_id).collect();
    let (directory, read) = Directory::load_keeping_pauses(conn, &agent_ids)?;
    let agent_ids = &agent_ids[..read];
    let mut unsettled = due.split_off(read);
    let mut fired = Fired::default();
    let (some, more) = match zones::catch_up(conn, &due, &directory, config, now)? {
        None => settle(conn, due, &directory, through, now, config)?,
        Some(followed) => {
            fired = followed;
            // They stand elsewhere now, and what was read before the change may have been the old zone.
            let (directory, read) = Directory::load_keeping_pauses(conn, agent_ids)?;
            let mut stand: HashMap<i64, Schedule> =
                schedules::load(conn, agent_ids)?.into_iter().map(|schedule| (schedule.agent_id, schedule)).collect();
            let mut standing = |agent_ids: &[i64]| -> Vec<Schedule> {
                agent_ids.iter().filter_map(|agent_id| stand.remove(agent_id)).collect()
            };
            due = standing(&agent_ids[..read]);
            // Documents may have grown since: who was not read this time is not gone.
            unsettled.splice(0..0, standing(&agent_ids[read..]));
            due.retain(|schedule| match through {
                Through::Now { .. } => schedule.next_fire_at.is_some_and(|tick| tick <= now),
                Through::Pause(at) | Through::Edit(at) => schedule.nominal().is_some_and(|nominal| nominal <= at),
            });
            settle(conn, due, &directory, through, now, config)?
        }
    };
    fired.join(some);
    unsettled.splice(0..0, more);
    Ok((fired, unsettled))
}

/// Settles the ticks of these locked schedules, by the zones that the directory has: of the first, and of as many more as
/// there is room for. Returns the others, too.
pub(crate) fn settle(
    conn: &mut DbConnection,
    mut due: Vec<Schedule>,
    directory: &Directory,
    through: Through,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<(Fired, Vec<Schedule>), DispatchError> {
    if due.is_empty() {
        return Ok((Fired::default(), Vec::new()));
    }
    let mut batch = Batch::begin(conn, &due, through, now, config)?;
    let mut settled = 0;
    for schedule in &mut due {
        if settled > 0 && !batch.has_room(schedule) {
            break;
        }
        batch.settle(schedule, directory.agent(schedule.agent_id))?;
        settled += 1;
    }
    let unsettled = due.split_off(settled);

    let Batch { mut runs, skipped, taken, locked, cancelled, .. } = batch;
    let mut stand = without_run(&due, &runs, directory, now);
    let (takers, taken): (Vec<i64>, Vec<i64>) = taken.into_iter().unzip();
    // Before the new runs are there, at which others may arrive.
    arrivals::take(conn, &takers)?;
    ticks::skip(conn, &skipped, now + config.overdue(1))?;
    schedules::advance(conn, &due)?;
    one_offs::finish(conn, &stand, now + config.overdue(1))?;
    if matches!(through, Through::Edit(_)) {
        // An edit says for itself where it leaves a schedule: what it settles is not where that stands.
        stand.clear();
    }
    let (cancelled, ended) = judge::end_now(conn, &cancelled, RunReason::Cancelled, config, now)?;
    // An edit or a pause holds what it changes until its end: it does not hold the window as well.
    let requests = match through {
        Through::Now { enters: true } => vec![(now, enqueue_or_enter(conn, &mut runs, locked, config, now)?)],
        Through::Now { enters: false } | Through::Pause(_) | Through::Edit(_) => {
            enqueue(conn, &mut runs, locked, now).map(|()| Vec::new())?
        }
    };
    runs::forget_held(conn, &taken)?;
    let with_lateness = |new: NewRun| {
        let late = now - new.request.run.fire_time;
        (new.request.run, late)
    };
    let runs = runs.into_iter().map(with_lateness).collect();
    Ok((Fired { runs, requests, skipped, schedules: stand, cancelled, ended }, unsettled))
}

/// Where those of these settled schedules stand that got none of the runs.
fn without_run(
    settled: &[Schedule],
    runs: &[NewRun],
    directory: &Directory,
    now: DateTime<Utc>,
) -> Vec<ScheduleRecord> {
    let with_run: HashSet<i64> = runs.iter().map(|new| new.request.run.agent_id.0).collect();
    // Of what was put off there is nothing new to say.
    let is_put_off = |schedule: &Schedule| schedule.next_fire_at.is_some() && schedule.nominal() <= Some(now);
    let without = settled.iter().filter(|schedule| !with_run.contains(&schedule.agent_id) && !is_put_off(schedule));
    let record = |schedule: &Schedule| {
        let view = directory.agent(schedule.agent_id)?;
        let is_finished = schedule.finished && view.agent.schedule.one_off;
        let finished_timing_version = is_finished.then_some(schedule.timing_version);
        Some(ScheduleRecord { finished_timing_version, ..schedule.stands() })
    };
    without.filter_map(record).collect()
}

/// What is recorded of a tick, or of a span of them, that has no run.
pub(crate) fn skipped(schedule: &Schedule, view: AgentView<'_>, span: Span) -> Skipped {
    let tick = SkippedTick {
        organisation: view.organisation.clone(),
        agent_id: view.agent.id,
        fire_time: span.from,
        nominal_time: span.from,
        until: span.until,
        reason: span.reason,
        agent_version: Some(view.version),
    };
    Skipped { tick, calls_back: schedule.calls_back_skipped }
}
