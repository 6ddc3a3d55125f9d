//! The watch: sends again what was lost, and gives the verdict on runs that nobody answers.
//!
//! Late is not lost: something is sent again only when it is overdue *and* the queue that would hold it was seen empty
//! twice, a second apart; each time the wait doubles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bus::Queue;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use model::run::RunReason;
use service_kit::database::DbConnection;
use tokio_util::sync::CancellationToken;

use crate::announce::{announce_ended, announce_pieces, announce_schedules, announce_skipped, stop};
use crate::context::Context;
use crate::error::DispatchError;
use crate::store::runs::{self, RunRow};
use crate::store::stage::Stage;
use crate::store::{one_offs, overdue, queue, ticks};
use crate::{judge, outcome, window};

/// Skipped ticks and finished one-offs wait as long for the next announcement as what was sent so often.
const SKIPPED_SENDS: i32 = 4;
/// How often the watch looks.
const ROUND: Duration = Duration::from_secs(1);
/// Most overdue runs that wait for one thing taken in one round.
const OVERDUE_MAX: i64 = 500;

/// What is delayed explains for so long why nothing was heard: longer, and a request whose key no runner has would keep
/// its place in the window for ever, and let nobody find out what was lost beside it.
const DELAY_MAX: TimeDelta = TimeDelta::minutes(2);

/// Looks every second, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut queues = SeenEmpty::default();
    loop {
        if let Err(error) = round(&context, &mut queues).await {
            tracing::error!(error = service_kit::error::chain(&error), "the watch could not look, trying again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.clock.sleep(ROUND) => {}
        }
    }
}

async fn round(context: &Context, queues: &mut SeenEmpty) -> Result<(), DispatchError> {
    if !context.knows_the_time() {
        return Ok(());
    }
    let now = context.clock.now();
    announce_skipped_again(context, now).await?;
    announce_finished_again(context, now).await?;
    let late = context.db.read(move |conn| all_overdue(conn, now)).await?;
    queues.look(context, late.iter().flat_map(|(awaited, _)| awaited.queues())).await;
    for (awaited, mut rows) in late {
        if !queues.were_empty_twice(awaited.queues()) {
            continue;
        }
        if queues.any_delayed(awaited.queues()) {
            let long_ago = now - DELAY_MAX;
            rows = context.db.read(move |conn| awaited.overdue(conn, long_ago).map_err(DispatchError::from)).await?;
        }
        let done = match awaited {
            Awaited::Start => request_again(context, rows).await,
            Awaited::Answer => end_unanswered(context, rows, RunReason::TimedOut).await,
            Awaited::Holding => announce_again(context, rows).await,
        };
        // What is wrong with some is no reason to leave the others alone.
        if let Err(error) = done {
            let error = service_kit::error::chain(&error);
            tracing::error!(error, ?awaited, "overdue runs were not taken care of, trying again");
        }
    }
    Ok(())
}

fn all_overdue(conn: &mut DbConnection, now: DateTime<Utc>) -> Result<Vec<(Awaited, Vec<RunRow>)>, DispatchError> {
    if !overdue::any(conn, now)? {
        return Ok(Vec::new());
    }
    let mut late = Vec::new();
    for awaited in [Awaited::Start, Awaited::Answer, Awaited::Holding] {
        late.push((awaited, awaited.overdue(conn, now)?));
    }
    late.retain(|(_, rows)| !rows.is_empty());
    Ok(late)
}

/// What an overdue run waits for.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    /// It was requested.
    Start,
    /// It is running.
    Answer,
    /// It has ended: that all hold its result who need it.
    Holding,
}

impl Awaited {
    /// The runs that wait for it and were overdue at `then`.
    fn overdue(self, conn: &mut DbConnection, then: DateTime<Utc>) -> QueryResult<Vec<RunRow>> {
        match self {
            Self::Start => overdue::of_stage(conn, Stage::Requested, then, OVERDUE_MAX),
            Self::Answer => overdue::of_stage(conn, Stage::Running, then, OVERDUE_MAX),
            Self::Holding => overdue::ended(conn, then, OVERDUE_MAX),
        }
    }

    /// The queues in which it may still be.
    fn queues(self) -> &'static [Queue] {
        match self {
            Self::Start => &[Queue::AgentRunnerRuns, Queue::CronDispatcherAnswers],
            Self::Answer => &[Queue::CronDispatcherAnswers],
            Self::Holding => &[Queue::AgentRegistryRuns, Queue::CallbackDelivererRuns, Queue::CronDispatcherRunsHeld],
        }
    }
}

async fn request_again(context: &Context, late: Vec<RunRow>) -> Result<(), DispatchError> {
    let lost_max = i32::try_from(context.config.lost_requests_max).unwrap_or(i32::MAX);
    let (lost, late): (Vec<_>, Vec<_>) = late.into_iter().partition(|row| row.sends > lost_max);
    // First, while it is true: to send the others may take a slow broker long.
    let ended = end_unanswered(context, lost, RunReason::Lost).await;
    // Dated before: one that a pause takes back meanwhile is older than that.
    let now = context.clock.now();
    let again = mark_sent_again(context, late).await?;
    if !again.is_empty() {
        tracing::warn!(runs = again.len(), "requests were lost, sending them again");
        metrics::counter!("carillon_requests_lost_total").increment(again.len() as u64);
        let pieces = context.db.read(move |conn| queue::in_pieces(conn, &again).map_err(DispatchError::from)).await?;
        let mut left = pieces.into_iter();
        while let Some(piece) = left.next() {
            let ids = piece.clone();
            let requests =
                context.db.read(move |conn| queue::requests(conn, &ids).map_err(DispatchError::from)).await?;
            if let Err(error) = window::request(context, requests, now).await {
                // Not sent is not lost: it does not count.
                let unsent: Vec<i64> = piece.into_iter().chain(left.flatten()).collect();
                context.db.write(move |conn| overdue::unsend(conn, &unsent).map_err(DispatchError::from)).await?;
                return Err(error);
            }
        }
    }
    ended
}

async fn announce_again(context: &Context, late: Vec<RunRow>) -> Result<(), DispatchError> {
    let again = mark_sent_again(context, late).await?;
    if again.is_empty() {
        return Ok(());
    }
    tracing::warn!(runs = again.len(), "results are not held yet, announcing them again");
    metrics::counter!("carillon_results_announced_again_total").increment(again.len() as u64);
    let pieces = context.db.read(move |conn| runs::in_pieces(conn, &again).map_err(DispatchError::from)).await?;
    announce_pieces(context, pieces).await
}

/// Skipped ticks that the deliverer does not hold yet are told again: it takes each once, however often it hears of it.
async fn announce_skipped_again(context: &Context, now: DateTime<Utc>) -> Result<(), DispatchError> {
    if !context.db.read(move |conn| ticks::any_unannounced(conn, now).map_err(DispatchError::from)).await? {
        return Ok(());
    }
    let next = now + context.config.overdue(SKIPPED_SENDS);
    let late = context
        .db
        .write(move |conn| ticks::take_unannounced(conn, now, next, OVERDUE_MAX).map_err(DispatchError::from));
    announce_skipped(context, &late.await?).await
}

/// One-offs that are done without a run are told of until the registry has turned them off.
async fn announce_finished_again(context: &Context, now: DateTime<Utc>) -> Result<(), DispatchError> {
    if !context.db.read(move |conn| one_offs::any_untold(conn, now).map_err(DispatchError::from)).await? {
        return Ok(());
    }
    let next = now + context.config.overdue(SKIPPED_SENDS);
    let untold =
        context.db.write(move |conn| one_offs::take_untold(conn, now, next, OVERDUE_MAX).map_err(DispatchError::from));
    announce_schedules(context, &untold.await?, now).await
}

/// Puts off when these are overdue next. Returns those that have not moved on meanwhile.
async fn mark_sent_again(context: &Context, mut late: Vec<RunRow>) -> Result<Vec<i64>, DispatchError> {
    if late.is_empty() {
        return Ok(Vec::new());
    }
    // In key order, so that two dispatchers never wait for each other.
    late.sort_by_key(|row| row.run.id);
    let now = context.clock.now();
    let config = context.config.clone();
    context
        .db
        .write(move |conn| {
            let mut again = Vec::with_capacity(late.len());
            for row in &late {
                if overdue::send_again(conn, row, now + config.overdue(row.sends + 1))? {
                    again.push(row.run.id.0);
                }
            }
            Ok(again)
        })
        .await
}

/// Gives the dispatcher's own verdict, and tells the runners to stop.
async fn end_unanswered(context: &Context, late: Vec<RunRow>, reason: RunReason) -> Result<(), DispatchError> {
    if late.is_empty() {
        return Ok(());
    }
    let now = context.clock.now();
    let config = context.config.clone();
    let end = move |conn: &mut DbConnection| judge::end_overdue(conn, &late, reason, &config, now);
    let (run_ids, ended) = context.db.write(end).await?;
    if run_ids.is_empty() {
        return Ok(());
    }
    tracing::warn!(runs = run_ids.len(), reason = %reason, "runs were never answered, ending them");
    outcome::note(context, &ended, &HashMap::new());
    stop(context, run_ids).await?;
    context.runs_queued.notify_one();
    context.schedules_changed.notify_one();
    announce_ended(context, &ended).await
}

/// Whether what waits in this queue for its next turn is still to be reckoned with: a request that is put off until a
/// runner has its key, and an answer that could not be taken. Of the others a second copy costs nothing.
fn delay_counts(queue: Queue) -> bool {
    matches!(queue, Queue::AgentRunnerRuns | Queue::CronDispatcherAnswers)
}

/// What the last looks at each queue have found.
#[derive(Default)]
struct SeenEmpty(HashMap<Queue, Seen>);

#[derive(Default)]
struct Seen {
    /// How many in a row found nothing ready.
    looks: u32,
    /// Whether something was delayed that counts: at the last look, and at the one before. What was at the first of two
    /// may have been taken in between, and is as little lost.
    delayed: bool,
    delayed_before: bool,
}

impl SeenEmpty {
    /// Looks at these queues, once each, and forgets all others.
    async fn look(&mut self, context: &Context, queues: impl Iterator<Item = &Queue>) {
        let before = std::mem::take(&mut self.0);
        for queue in queues {
            if self.0.contains_key(queue) {
                continue;
            }
            let seen = match context.bus.depth(*queue).await {
                Ok(depth) if depth.ready == 0 => Seen {
                    looks: before.get(queue).map_or(0, |seen| seen.looks) + 1,
                    delayed: depth.delayed > 0 && delay_counts(*queue),
                    delayed_before: before.get(queue).is_some_and(|seen| seen.delayed),
                },
                Ok(_) | Err(_) => Seen::default(),
            };
            self.0.insert(*queue, seen);
        }
    }

    /// Whether something was delayed in any of these, in the last two looks, that counts.
    fn any_delayed(&self, queues: &[Queue]) -> bool {
        queues.iter().any(|queue| self.0.get(queue).is_some_and(|seen| seen.delayed || seen.delayed_before))
    }

    /// Whether each of these was found with nothing ready in the last two looks.
    fn were_empty_twice(&self, queues: &[Queue]) -> bool {
        queues.iter().all(|queue| self.0.get(queue).is_some_and(|seen| seen.looks >= 2))
    }
}
