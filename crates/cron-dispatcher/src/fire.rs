//! Fire: turns what is due into runs, in one transaction.
//!
//! The transaction locks due schedules, writes a run for each (or a span of skipped ticks with its reason) and advances
//! them. A crash before its commit changes nothing; after it, the runs are in the queue, which is this table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use model::document::Mentor;
use model::id::RunId;
use model::run::{Run, RunRequest, RunState, SkipReason, Trigger};
use service_kit::database::DbConnection;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::chain::{Reached, arrive};
use crate::context::Context;
use crate::error::DispatchError;
use crate::plan::{Settled, Span, Timing};
use crate::prompt::{bounded, with_output};
use crate::store::documents::{AgentView, Directory};
use crate::store::queue::NewRun;
use crate::store::schedules::Schedule;
use crate::store::{arrivals, queue, runs, schedules, ticks, turns};

/// The longest that the dispatcher sleeps, so that a frozen or misled replica notices soon.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What one transaction fired.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    /// How late each run was when it was made.
    pub(crate) lateness: Vec<TimeDelta>,
    /// Spans of skipped ticks, by their reasons.
    pub(crate) skipped: Vec<SkipReason>,
}

/// Fires what is due, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let next = match fire_once(&context).await {
            Ok(next) => context.works(next),
            Err(error) => context.troubled("schedules were not fired", &error),
        };
        let next_tick = async {
            match next {
                Some(tick) => context.clock.sleep_until(tick).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.schedules_changed.notified() => {}
            () = next_tick => {}
            () = tokio::time::sleep(SLEEP_MAX) => {}
        }
    }
}

/// Fires one batch, if anything is due. Returns the next tick, if any is planned; it may be due already.
async fn fire_once(context: &Context) -> Result<Option<DateTime<Utc>>, DispatchError> {
    if !context.clock_agrees.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let now = context.clock.now();
    let limit = i64::from(context.config.fire_batch);
    let set_aside = context.set_aside();
    let earliest =
        context.db.read(move |conn| schedules::earliest(conn, &set_aside).map_err(DispatchError::from)).await?;
    if earliest.is_none_or(|tick| tick > now) {
        return Ok(earliest);
    }
    let fired = match fire_due(context, now, limit).await {
        Err(error) if !error.is_unavailable() => fire_one_by_one(context, now, limit, &error).await?,
        fired => fired?,
    };
    count(&fired);
    context.runs_queued.notify_one();
    let set_aside = context.set_aside();
    context.db.read(move |conn| schedules::earliest(conn, &set_aside).map_err(DispatchError::from)).await
}

async fn fire_due(context: &Context, now: DateTime<Utc>, limit: i64) -> Result<Fired, DispatchError> {
    let set_aside = context.set_aside();
    let fire_batch = move |conn: &mut DbConnection| {
        let due = schedules::lock_due(conn, now, &set_aside, limit)?;
        fire(conn, due, now, now)
    };
    context.db.write(fire_batch).await
}

/// Fires what is due alone, so that one schedule that cannot be fired takes no neighbour with it. That one is set aside
/// for a minute at a time; its tick stays due.
async fn fire_one_by_one(
    context: &Context,
    now: DateTime<Utc>,
    limit: i64,
    error: &DispatchError,
) -> Result<Fired, DispatchError> {
    let set_aside = context.set_aside();
    let due = context.db.read(move |conn| schedules::due(conn, now, &set_aside, limit).map_err(DispatchError::from));
    let due = due.await?;
    tracing::error!(error = chain(error), schedules = due.len(), "a batch was not fired, firing one by one");
    let mut all = Fired::default();
    for agent_id in due {
        let fire_alone = move |conn: &mut DbConnection| {
            let one = schedules::lock(conn, agent_id)?.filter(|one| one.next_fire_at.is_some_and(|tick| tick <= now));
            fire(conn, one.into_iter().collect(), now, now)
        };
        match context.db.write(fire_alone).await {
            Ok(fired) => {
                all.lateness.extend(fired.lateness);
                all.skipped.extend(fired.skipped);
            }
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => {
                tracing::error!(agent.id = agent_id, error = chain(&error), "a schedule cannot be fired, set aside");
                metrics::counter!("carillon_schedules_set_aside_total").increment(1);
                context.put_aside(agent_id);
            }
        }
    }
    Ok(all)
}

/// Counts what was fired; after the commit, so that nothing is counted that was rolled back.
pub(crate) fn count(fired: &Fired) {
    for late in &fired.lateness {
        let seconds = late.to_std().unwrap_or_default().as_secs_f64();
        metrics::histogram!("carillon_fire_lateness_seconds").record(seconds);
    }
    for reason in &fired.skipped {
        metrics::counter!("carillon_tick_spans_skipped_total", "reason" => reason.as_str()).increment(1);
    }
    if !fired.lateness.is_empty() || !fired.skipped.is_empty() {
        tracing::debug!(runs = fired.lateness.len(), skipped_spans = fired.skipped.len(), "schedules fired");
    }
}

/// Settles every tick of these locked schedules up to and including `until`.
pub(crate) fn fire(
    conn: &mut DbConnection,
    mut due: Vec<Schedule>,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Fired, DispatchError> {
    let agent_ids: Vec<i64> = due.iter().map(|schedule| schedule.agent_id).collect();
    let directory = Directory::load(conn, &agent_ids)?;
    let followers: Vec<i64> =
        due.iter().filter(|schedule| schedule.follows.is_some()).map(|schedule| schedule.agent_id).collect();
    let mut planned = Planned { arrived: arrivals::take(conn, &followers)?, ..Planned::default() };
    for schedule in &mut due {
        planned.settle(schedule, directory.agent(schedule.agent_id), until)?;
    }

    let Planned { mut runs, spans, arrived, .. } = planned;
    ticks::skip(conn, &spans)?;
    schedules::advance(conn, &due)?;
    enqueue(conn, &mut runs, now)?;
    let taken: Vec<i64> = arrived.values().map(|(previous, _)| previous.0).collect();
    runs::forget_held(conn, &taken)?;
    Ok(Fired {
        lateness: runs.iter().map(|run| now - run.request.run.fire_time).collect(),
        skipped: spans.iter().map(|(_, span)| span.reason).collect(),
    })
}

/// Puts new runs into the queue: each gets its turn and its id, and whoever follows a requested run is made ready.
pub(crate) fn enqueue(conn: &mut DbConnection, new: &mut [NewRun], now: DateTime<Utc>) -> Result<(), DispatchError> {
    if new.is_empty() {
        return Ok(());
    }
    let organisations: BTreeSet<&str> = new.iter().map(|run| run.request.run.organisation.as_str()).collect();
    let mut given = turns::lock(conn, &organisations)?;
    for run in new.iter_mut() {
        run.turn = given.take(run.request.run.organisation.as_str());
    }
    turns::put(conn, given)?;
    queue::insert(conn, new, now)?;
    let reached: Vec<Reached> = new
        .iter()
        .map(|NewRun { request: RunRequest { run, .. }, .. }| Reached {
            agent_id: run.agent_id,
            run_id: run.id,
            status: RunState::Pending,
        })
        .collect();
    arrive(conn, &reached, now)?;
    Ok(())
}

/// What a batch of schedules comes to.
#[derive(Default)]
struct Planned {
    runs: Vec<NewRun>,
    spans: Vec<(i64, Span)>,
    /// Many schedules share one crontab: each is settled once.
    settled: HashMap<(Timing, DateTime<Utc>), Settled>,
    /// What followers take: the previous run and its output.
    arrived: HashMap<i64, (RunId, String)>,
}

impl Planned {
    fn settle(
        &mut self,
        schedule: &mut Schedule,
        view: Option<AgentView<'_>>,
        until: DateTime<Utc>,
    ) -> Result<(), DispatchError> {
        let Some(due) = schedule.next_fire_at else { return Ok(()) };
        let Some(view) = view else {
            // The agent went in this very moment; its schedule goes with its document.
            schedule.next_fire_at = None;
            return Ok(());
        };
        if schedule.follows.is_some() {
            self.follow(schedule, view, due);
            return Ok(());
        }
        let timing = Timing::of(view.agent, view.zone).map_err(|error| DispatchError::Crontab(view.agent.id, error))?;
        let settled = self.settled.entry((timing, due)).or_insert_with(|| timing.settle(due, until)).clone();

        self.spans.extend(settled.skipped.iter().map(|span| (schedule.agent_id, *span)));
        let one_off = view.agent.schedule.one_off;
        match (settled.run, view.mentor) {
            (Some(tick), Some(mentor)) => {
                schedule.sequence += 1;
                let finished = one_off.then_some(schedule.timing_version);
                self.runs.push(scheduled_run(view, mentor, tick, schedule.sequence, finished));
            }
            (Some(tick), None) => {
                let until = tick + TimeDelta::microseconds(1);
                self.spans.push((schedule.agent_id, Span { from: tick, until, reason: SkipReason::MentorDeleted }));
            }
            (None, _) => {}
        }
        schedule.next_fire_at = settled.next;
        schedule.fired_through = schedule.fired_through.max(until);
        schedule.finished |= one_off;
        Ok(())
    }

    /// Fires a follower that was made ready: however late, and once.
    fn follow(&mut self, schedule: &mut Schedule, view: AgentView<'_>, due: DateTime<Utc>) {
        schedule.next_fire_at = None;
        let Some((_, output)) = self.arrived.get(&schedule.agent_id) else { return };
        let Some(mentor) = view.mentor else {
            let until = due + TimeDelta::microseconds(1);
            self.spans.push((schedule.agent_id, Span { from: due, until, reason: SkipReason::MentorDeleted }));
            return;
        };
        let one_off = view.agent.schedule.one_off;
        schedule.sequence += 1;
        schedule.finished |= one_off;
        let mut request = request(view, mentor, Trigger::Chain, due, schedule.sequence);
        request.prompt = with_output(&view.agent.prompt, output);
        let finished_timing_version = one_off.then_some(schedule.timing_version);
        self.runs.push(NewRun { turn: 0, finished_timing_version, request });
    }
}

fn scheduled_run(
    view: AgentView<'_>,
    mentor: &Mentor,
    tick: DateTime<Utc>,
    sequence: i64,
    finished_timing_version: Option<i64>,
) -> NewRun {
    let request = request(view, mentor, Trigger::Schedule, tick, sequence);
    NewRun { turn: 0, finished_timing_version, request }
}

/// What a runner will be sent; the run's id comes with its row.
pub(crate) fn request(
    view: AgentView<'_>,
    mentor: &Mentor,
    trigger: Trigger,
    fire_time: DateTime<Utc>,
    sequence: i64,
) -> RunRequest {
    let agent = view.agent;
    RunRequest {
        run: Run {
            id: RunId(0),
            organisation: view.organisation.clone(),
            agent_id: agent.id,
            trigger,
            fire_time,
            nominal_time: fire_time,
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
    }
}
