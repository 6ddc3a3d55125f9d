//! The runner's one role, from its first connection to its orderly end.
//!
//! A slot is a permit that a run holds from its request to its confirmed answer; the prefetch is the number of slots,
//! so a runner never holds a request that it cannot begin at once. A request is acknowledged only after its answer is
//! confirmed. Whatever dies in between, the request comes again; the judge takes the first answer and drops the rest.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, BusError, Delivery, Message, Queue, RetryDelays, Subscription};
use model::event::{Event, EventKind, RunCancel};
use model::wire::Wire;
use service_kit::admin::Condition;
use service_kit::clock::Clock;
use service_kit::error::chain;
use service_kit::traces::Traces;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
use crate::config::RunnerConfig;
use crate::in_flight::InFlight;
use crate::work::Work;

/// How long to wait while the bus is away.
pub(crate) const OUTAGE_DELAYS: RetryDelays =
    RetryDelays { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// How long a request is put off whose API key this runner cannot open: in the middle of a rotation another can.
pub(crate) const KEY_DELAY: Duration = Duration::from_secs(5);

/// What the runner is made of.
pub(crate) struct Parts {
    pub(crate) config: RunnerConfig,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    /// Where spans go.
    pub(crate) traces: Traces,
    pub(crate) asker: Arc<Asker>,
    /// Whether requests can be taken.
    pub(crate) consuming: Condition,
    /// Whether answers can be published.
    pub(crate) publishing: Condition,
    /// Whether all API keys could be opened lately.
    pub(crate) keys: Condition,
}

impl Parts {
    pub(crate) fn message<E: Event>(&self, event: &E, traceparent: Option<String>) -> Message {
        let mut message = Message::new(E::KIND, crate::NAME, self.clock.now(), event.encode());
        message.traceparent = traceparent;
        message
    }
}

/// Runs until `shutdown` is cancelled, then ends in order.
pub(crate) async fn run(parts: Arc<Parts>, shutdown: CancellationToken) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("carillon_runner_concurrency").set(parts.config.concurrency as f64);
    // Listens for cancels before the first request is taken, so that none is missed.
    let bus = &parts.bus;
    let subscribe = || bus.subscribe();
    let Some(subscription) = connect(&parts, &shutdown, subscribe).await? else { return Ok(()) };
    let mut work = Work::start(Arc::clone(&parts), subscription);
    work.join(&shutdown).await;
    let consume = || bus.consume(Queue::AgentRunnerRuns, parts.config.concurrency);
    let Some(consumer) = connect(&parts, &shutdown, consume).await? else { return Ok(()) };
    parts.consuming.met();
    let taken = work.take(consumer, &shutdown).await;
    parts.consuming.unmet("the runner takes no more requests: it is stopping");
    work.drain(parts.config.drain()).await;
    taken
}

/// Tries until the bus is there. None: shut down meanwhile.
async fn connect<T, A: Future<Output = Result<T, BusError>>>(
    parts: &Parts,
    shutdown: &CancellationToken,
    attempt: impl Fn() -> A,
) -> anyhow::Result<Option<T>> {
    let mut failures = 0;
    loop {
        match attempt().await {
            Ok(connected) => return Ok(Some(connected)),
            Err(error @ BusError::Unavailable(_)) => {
                failures += 1;
                parts.consuming.unmet("requests cannot be taken: the bus is away");
                tracing::warn!(failures, error = chain(&error), "cannot consume requests, trying again");
                let pause = tokio::time::sleep(OUTAGE_DELAYS.after(failures));
                if shutdown.run_until_cancelled(pause).await.is_none() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error).context("cannot consume requests"),
        }
    }
}

/// Stops what is cancelled, until the bus is closed.
pub(crate) async fn hear_cancels(
    mut broadcasts: Subscription,
    in_flight: Arc<InFlight>,
    settled: UnboundedSender<Vec<Delivery>>,
    told_all: Arc<Notify>,
) {
    while let Some(message) = broadcasts.next().await {
        if message.kind != EventKind::RunCancel {
            continue;
        }
        match RunCancel::decode(&message.body) {
            Ok(cancel) => {
                let stopped = in_flight.cancel(&cancel.run_ids, message.time);
                tracing::info!(
                    runs.cancelled = cancel.run_ids.len(),
                    runs.stopped = stopped.len(),
                    "runs were cancelled"
                );
                let _ = settled.send(stopped);
                if cancel.complete {
                    told_all.notify_one();
                }
            }
            Err(error) => tracing::error!(message.id = %message.id, error = chain(&error), "a cancel cannot be read"),
        }
    }
}
