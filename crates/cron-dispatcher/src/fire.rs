//! Fire: looks for what is due, and has it settled in one transaction.
//!
//! A crash before the commit changes nothing; after it, the runs are in the queue, which is this table, and what others
//! were to hear of it (skipped ticks, cancelled runs) is announced again when overdue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use service_kit::database::DbConnection;
use service_kit::error::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::announce::{announce_ended, announce_schedules, announce_skipped, stop};
use crate::context::Context;
use crate::error::DispatchError;
use crate::fired::Fired;
use crate::pieces::BYTES_MAX;
use crate::settle::{Through, fire};
use crate::store::schedules;
use crate::window::request;
use crate::{outcome, traces};

/// The longest that the dispatcher sleeps, so that a frozen or misled replica notices soon.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Until the next look while another dispatcher has in hand what is due.
const OTHERS_TURN: Duration = Duration::from_millis(50);

/// Batches that are fired and wait to be told while another is. Firing never waits for a broker that is slow, or away:
/// beyond one of these, runs wait in the queue; beyond all, what is to be told is told when it is overdue.
const UNTOLD_MAX: usize = 8;

/// Fires what is due, for as long as the process runs; what was fired is told before this returns, if the broker is there.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (telling, mut untold) = mpsc::channel(UNTOLD_MAX);
    let tell_all = async {
        while let Some(fired) = untold.recv().await {
            if let Err(error) = publish(&context, fired).await {
                context.troubled::<()>("what was fired was not told", &error);
                // Whoever comes after this process tells the rest, when it is overdue.
                if shutdown.is_cancelled() {
                    break;
                }
            }
        }
    };
    tokio::join!(fire_all(&context, telling, &shutdown), tell_all);
    Ok(())
}

async fn fire_all(context: &Context, telling: mpsc::Sender<Fired>, shutdown: &CancellationToken) {
    loop {
        let next = match fire_once(context, &telling).await {
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
            () = shutdown.cancelled() => return,
            () = context.schedules_changed.notified() => {}
            () = next_tick => {}
            () = tokio::time::sleep(SLEEP_MAX) => {}
        }
    }
}

/// Fires one batch, if anything is due. Returns the next tick, if any is planned; it may be due already.
async fn fire_once(context: &Context, telling: &mpsc::Sender<Fired>) -> Result<Option<DateTime<Utc>>, DispatchError> {
    if !context.knows_the_time() {
        return Ok(None);
    }
    let now = context.clock.now();
    let limit = i64::from(context.config.fire_batch);
    let earliest = next(context).await?;
    if earliest.is_none_or(|tick| tick > now) {
        return Ok(earliest);
    }
    let through = Through::Now { enters: telling.capacity() == telling.max_capacity() };
    let fired = match fire_due(context, now, limit, through).await {
        Err(error) if !error.is_unavailable() => Some(fire_one_by_one(context, now, limit, through, &error).await?),
        fired => fired?,
    };
    let Some(fired) = fired else {
        tokio::time::sleep(OTHERS_TURN).await;
        return next(context).await;
    };
    context.runs_queued.notify_one();
    count(context, &fired);
    if telling.try_send(fired).is_err() {
        tracing::warn!("the broker is behind: what was just fired is announced when it is overdue");
    }
    next(context).await
}

/// The next tick, but for those set aside.
async fn next(context: &Context) -> Result<Option<DateTime<Utc>>, DispatchError> {
    let set_aside = context.set_aside();
    context.db.read(move |conn| schedules::earliest(conn, &set_aside).map_err(DispatchError::from)).await
}

/// `None`: what is due is in another dispatcher's hands.
async fn fire_due(
    context: &Context,
    now: DateTime<Utc>,
    limit: i64,
    through: Through,
) -> Result<Option<Fired>, DispatchError> {
    let (set_aside, config) = (context.set_aside(), context.config.clone());
    let fire_batch = move |conn: &mut DbConnection| {
        let due = schedules::lock_due(conn, now, &set_aside, limit)?;
        if due.is_empty() { Ok(None) } else { fire(conn, due, through, now, &config).map(Some) }
    };
    context.db.write(fire_batch).await
}

/// Fires what is due alone, so that one schedule that cannot be fired takes no neighbour with it. That one is set aside
/// for a minute at a time; its tick stays due.
async fn fire_one_by_one(
    context: &Context,
    now: DateTime<Utc>,
    limit: i64,
    through: Through,
    error: &DispatchError,
) -> Result<Fired, DispatchError> {
    let set_aside = context.set_aside();
    let due = context.db.read(move |conn| schedules::due(conn, now, &set_aside, limit).map_err(DispatchError::from));
    let due = due.await?;
    tracing::error!(error = chain(error), schedules = due.len(), "a batch was not fired, firing one by one");
    let mut all = Fired::default();
    for agent_id in due {
        // What is left stays due.
        if all.request_bytes() >= BYTES_MAX {
            break;
        }
        let config = context.config.clone();
        let fire_alone = move |conn: &mut DbConnection| {
            let one = schedules::lock(conn, agent_id)?.filter(|one| one.next_fire_at.is_some_and(|tick| tick <= now));
            fire(conn, one.into_iter().collect(), through, now, &config)
        };
        match context.db.write(fire_alone).await {
            Ok(fired) => all.join(fired),
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

/// Counts what was fired, and tells those who are to hear of it; after the commit, so that nothing is told that was
/// rolled back. What is not heard is told again when overdue.
pub(crate) async fn tell(context: &Context, fired: Fired) -> Result<(), DispatchError> {
    count(context, &fired);
    publish(context, fired).await
}

fn count(context: &Context, fired: &Fired) {
    for (run, late) in &fired.runs {
        let seconds = late.to_std().unwrap_or_default().as_secs_f64();
        metrics::histogram!("carillon_tick_lateness_seconds", "trigger" => run.trigger.as_str()).record(seconds);
        traces::tick(context, run, *late);
    }
    for reason in fired.skipped.iter().map(|one| one.tick.reason) {
        metrics::counter!("carillon_tick_spans_skipped_total", "reason" => reason.as_str()).increment(1);
    }
    if !fired.runs.is_empty() || !fired.skipped.is_empty() {
        tracing::debug!(runs = fired.runs.len(), skipped_spans = fired.skipped.len(), "schedules fired");
    }
}

async fn publish(context: &Context, fired: Fired) -> Result<(), DispatchError> {
    outcome::note(context, &fired.ended, &HashMap::new());
    // First, and whatever becomes of the rest: this alone is said once.
    let stopped = stop(context, fired.cancelled).await;
    for (since, requests) in fired.requests {
        request(context, requests, since).await?;
    }
    let called_back: Vec<_> = fired.skipped.into_iter().filter(|one| one.calls_back).map(|one| one.tick).collect();
    announce_skipped(context, &called_back).await?;
    announce_schedules(context, &fired.schedules, context.clock.now()).await?;
    announce_ended(context, &fired.ended).await?;
    stopped
}
