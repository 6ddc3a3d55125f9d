//! A batch: what is decided about each tick of locked schedules, before any of it is written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use model::document::{CatchUp, Mentor, OverlapPolicy};
use model::id::RunId;
use model::run::{SkipReason, Trigger};
use model::schedule::{Due, ON_TIME, Policy, Settled, Span, Timing};
use service_kit::database::DbConnection;

use super::{Through, skipped};
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::pieces::{BYTES_MAX, pieces};
use crate::prompt::with_output;
use crate::request::{Locked, new_run};
use crate::store::documents::AgentView;
use crate::store::queue::NewRun;
use crate::store::schedules::Schedule;
use crate::store::ticks::Skipped;
use crate::store::{arrivals, runs, window};

/// Until an organisation whose runs wait in too great a number is looked at again for its one-offs.
const ROOM_LOOK: TimeDelta = TimeDelta::minutes(1);

/// So long the ticks of a batch are reckoned with, about: a year of a minutely crontab may be to be caught up with, and
/// the database ends a transaction that says nothing for long.
const RECKONING_MAX: Duration = Duration::from_secs(1);

/// What a batch of schedules comes to.
pub(super) struct Batch<'a> {
    through: Through,
    now: DateTime<Utc>,
    config: &'a DispatcherConfig,
    pub(super) runs: Vec<NewRun>,
    pub(super) skipped: Vec<Skipped>,
    /// Many schedules share one crontab: each is settled once.
    settled: HashMap<(Timing, DateTime<Utc>, Policy), Settled>,
    /// What followers take: the previous run, and what those put out that were read.
    arrived: HashMap<i64, RunId>,
    outputs: HashMap<RunId, String>,
    /// Who took what.
    pub(super) taken: Vec<(i64, i64)>,
    /// Runs under way of agents that do not let them overlap.
    busy: HashMap<i64, Vec<i64>>,
    /// Runs under way that make way.
    pub(super) cancelled: Vec<i64>,
    pub(super) locked: Locked,
    /// Organisations of which too many runs wait.
    backlogged: HashSet<String>,
    /// Bytes of what the runs are asked.
    bytes: usize,
    began_at: Instant,
}

impl<'a> Batch<'a> {
    /// Locks and looks at what decides about these locked schedules.
    pub(super) fn begin(
        conn: &mut DbConnection,
        due: &[Schedule],
        through: Through,
        now: DateTime<Utc>,
        config: &'a DispatcherConfig,
    ) -> Result<Self, DispatchError> {
        let ids = |wanted: fn(&Schedule) -> bool| -> Vec<i64> {
            due.iter().filter(|schedule| wanted(schedule)).map(|schedule| schedule.agent_id).collect()
        };
        let followers = ids(|schedule| schedule.follows.is_some());
        let alone = ids(|schedule| schedule.overlap != OverlapPolicy::Allow);
        let organisations: BTreeSet<&str> = due.iter().map(|schedule| schedule.organisation.as_str()).collect();
        let locked = Locked::new(conn, &ids(|_| true), &organisations)?;
        let most = i64::from(config.backlog_max);
        let mut backlogged = HashSet::new();
        let any_waiting = window::any_waiting(conn)?;
        for organisation in organisations {
            let queued = locked.turns.backlog(organisation);
            if queued >= most || any_waiting && window::waits_at_least(conn, organisation, most - queued)? {
                backlogged.insert(organisation.to_owned());
            }
        }
        let arrived = arrivals::of(conn, &followers)?;
        // Once each, however many follow; and no more than fit.
        let mut seen = HashSet::new();
        let in_order = followers.iter().filter_map(|agent_id| arrived.get(agent_id).copied());
        let wanted = pieces(in_order.filter(|(run, _)| seen.insert(*run))).into_iter().next().unwrap_or_default();
        let outputs = arrivals::outputs(conn, &wanted)?;
        Ok(Self {
            through,
            now,
            config,
            runs: Vec::new(),
            skipped: Vec::new(),
            settled: HashMap::new(),
            arrived: arrived.into_iter().map(|(agent_id, (run, _))| (agent_id, run)).collect(),
            outputs,
            taken: Vec::new(),
            busy: runs::exclusive(conn, &alone)?,
            cancelled: Vec::new(),
            locked,
            backlogged,
            bytes: 0,
            began_at: Instant::now(),
        })
    }

    /// Whether there is room for one more: what it takes was read, what the others are asked is not too much, and the
    /// ticks of theirs that were reckoned with not too many. The first always has room.
    pub(super) fn has_room(&self, next: &Schedule) -> bool {
        let is_read = self.arrived.get(&next.agent_id).is_none_or(|run| self.outputs.contains_key(run));
        is_read && self.bytes < BYTES_MAX && self.began_at.elapsed() < RECKONING_MAX
    }

    /// Settles the ticks of one of them.
    pub(super) fn settle(&mut self, schedule: &mut Schedule, view: Option<AgentView<'_>>) -> Result<(), DispatchError> {
        let Some(due) = schedule.nominal() else { return Ok(()) };
        let Some(view) = view else {
            // The agent went in this very moment; its schedule goes with its document.
            schedule.plan_none();
            self.take(schedule);
            return Ok(());
        };
        if let Some(reason) = self.waits(schedule, view) {
            schedule.wait(reason);
            return Ok(());
        }
        if self.waits_for_room(view) {
            schedule.put_off(self.now + ROOM_LOOK);
            return Ok(());
        }
        let waited = schedule.waits.take().map(|(reason, _)| reason);
        let resumed_with = schedule.resumed_with.take();
        if schedule.follows.is_some() {
            self.follow(schedule, view, due, resumed_with);
            return Ok(());
        }
        let timing = Timing::of(view.agent, view.zone).map_err(|error| DispatchError::Crontab(view.agent.id, error))?;
        let through = match self.through {
            Through::Now { .. } => timing.due_by(self.now),
            Through::Pause(at) | Through::Edit(at) => at,
        };
        let policy = Policy::of(&view.agent.schedule, self.config.catch_up_max as usize);
        let policy = match waited {
            Some(SkipReason::Paused) => policy.after_pause(resumed_with),
            Some(SkipReason::Overlap) => policy.after_overlap(),
            _ => policy,
        };
        let settled = self.settled.entry((timing, due, policy));
        let settled = settled.or_insert_with(|| timing.settle(due, through, policy)).clone();

        self.skipped.extend(settled.skipped.iter().map(|span| skipped(schedule, view, *span)));
        if timing.is_one_off() && settled.next.is_none() {
            schedule.finished = true;
        }
        for due in self.newest_only(schedule, view, settled.runs) {
            let late = self.now - timing.fire_time(due.nominal) > ON_TIME && waited != Some(SkipReason::Overlap);
            let trigger = if late { Trigger::CatchUp } else { Trigger::Schedule };
            self.run(schedule, view, due, trigger, timing.fire_time(due.nominal), None);
        }
        schedule.plan(&timing, settled.next);
        if settled.next.is_none_or(|next| next > through) {
            schedule.fired_through = schedule.fired_through.max(through);
        }
        Ok(())
    }

    /// Whether ticks may wait: an edit ends the timing that they belong to.
    fn can_wait(&self) -> bool {
        !matches!(self.through, Through::Edit(_))
    }

    /// Why the ticks of this schedule are not settled now, if they are not.
    fn waits(&self, schedule: &Schedule, view: AgentView<'_>) -> Option<SkipReason> {
        if view.paused {
            return Some(SkipReason::Paused);
        }
        let busy = self.busy.contains_key(&schedule.agent_id);
        (self.can_wait() && busy && schedule.overlap == OverlapPolicy::QueueOne).then_some(SkipReason::Overlap)
    }

    /// Whether the only tick of an agent waits until its organisation has fewer runs that wait: no later one makes up for
    /// it.
    fn waits_for_room(&self, view: AgentView<'_>) -> bool {
        view.agent.schedule.one_off && matches!(self.mentor_to_ask(view), Err(SkipReason::Backlog))
    }

    /// Of an agent whose runs must not overlap, the newest tick alone, if it may run at all.
    fn newest_only(&mut self, schedule: &Schedule, view: AgentView<'_>, mut runs: Vec<Due>) -> Vec<Due> {
        let busy = self.busy.get(&schedule.agent_id);
        let keep = match schedule.overlap {
            OverlapPolicy::Allow => return runs,
            OverlapPolicy::Skip | OverlapPolicy::QueueOne if busy.is_some() => 0,
            OverlapPolicy::Skip | OverlapPolicy::QueueOne | OverlapPolicy::CancelRunning => 1,
        };
        let newest = runs.split_off(runs.len().saturating_sub(keep));
        let over = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let passed_over = runs.iter().fold(over, |sum, due| sum.saturating_add(due.passed_over));
        let spans = runs.iter().map(|due| skipped(schedule, view, Span::one(due.nominal, SkipReason::Overlap)));
        self.skipped.extend(spans);
        let add = |due: Due| Due { passed_over: due.passed_over.saturating_add(passed_over), ..due };
        newest.into_iter().map(add).collect()
    }

    /// Whom a run of this agent would ask, or why there is none.
    fn mentor_to_ask<'v>(&self, view: AgentView<'v>) -> Result<&'v Mentor, SkipReason> {
        if !view.creator_allowed {
            return Err(SkipReason::CreatorNotAllowed);
        }
        let mentor = view.mentor.ok_or(SkipReason::MentorDeleted)?;
        // An only tick that can wait no longer runs, however many wait.
        let must_run = view.agent.schedule.one_off && !self.can_wait();
        let is_backlogged = self.backlogged.contains(view.organisation.as_str());
        if is_backlogged && !must_run { Err(SkipReason::Backlog) } else { Ok(mentor) }
    }

    /// Makes a run of a tick, or records why not.
    fn run(
        &mut self,
        schedule: &mut Schedule,
        view: AgentView<'_>,
        due: Due,
        trigger: Trigger,
        fire_time: DateTime<Utc>,
        follows: Option<RunId>,
    ) {
        let mentor = match self.mentor_to_ask(view) {
            Ok(mentor) => mentor,
            Err(reason) => {
                self.skipped.push(skipped(schedule, view, Span::one(due.nominal, reason)));
                return;
            }
        };
        if schedule.overlap == OverlapPolicy::CancelRunning {
            self.cancelled.extend(self.busy.remove(&schedule.agent_id).unwrap_or_default());
        }
        schedule.sequence += 1;
        let mut run = new_run(view, mentor, trigger, schedule.sequence);
        run.request.run.fire_time = fire_time;
        run.request.run.nominal_time = due.nominal;
        run.request.run.passed_over = due.passed_over;
        run.finished_timing_version = view.agent.schedule.one_off.then_some(schedule.timing_version);
        if let Some(previous) = follows {
            let output = self.outputs.get(&previous).map(String::as_str).unwrap_or_default();
            run.request.prompt = with_output(&view.agent.prompt, output);
        }
        self.bytes += run.request.prompt.len() + run.request.mentor.system_prompt.len();
        self.runs.push(run);
    }

    /// Fires a follower that was made ready: however late, and once.
    fn follow(
        &mut self,
        schedule: &mut Schedule,
        view: AgentView<'_>,
        due: DateTime<Utc>,
        resumed_with: Option<CatchUp>,
    ) {
        schedule.plan_none();
        let Some(run) = self.take(schedule) else { return };
        if resumed_with == Some(CatchUp::None) {
            self.skipped.push(skipped(schedule, view, Span::one(due, SkipReason::Paused)));
            return;
        }
        let due = Due { nominal: due, passed_over: 0 };
        for due in self.newest_only(schedule, view, vec![due]) {
            self.run(schedule, view, due, Trigger::Chain, due.nominal, Some(run));
            schedule.finished |= view.agent.schedule.one_off;
        }
    }

    /// A follower takes what arrived, whatever becomes of it.
    fn take(&mut self, schedule: &Schedule) -> Option<RunId> {
        let run = *self.arrived.get(&schedule.agent_id)?;
        self.taken.push((schedule.agent_id, run.0));
        Some(run)
    }
}
