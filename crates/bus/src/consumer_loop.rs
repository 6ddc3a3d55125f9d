//! The loop around a handler: batches, failures, outages, shutdown. [`crate::handler`] says what it does when.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::consumer::{Consumer, Delivery};
use crate::error::BusError;
use crate::handler::{BATCH_MAX, ConsumeOptions, HandleError, Handler};
use crate::message::Message;
use crate::topology::Queue;

/// Consumes a queue until `shutdown` is cancelled or the bus is closed.
///
/// On shutdown nothing new is taken, and the batch in hand is finished and settled; only a batch that waits for
/// something unavailable goes back unhandled. In an outage that lasts, everything in hand goes back, once, and then one
/// message at a time is tried until one gets through. `ready` hears `true` when consuming begins, `false` when something
/// becomes unavailable or the bus loses its connection, and `true` when it is back.
///
/// # Errors
///
/// The bus was closed before consuming began. Everything else heals by waiting.
pub async fn run_consumer(
    bus: Arc<dyn Bus>,
    queue: Queue,
    options: ConsumeOptions,
    handler: impl Handler,
    ready: impl Fn(bool) + Send + Sync,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let connected = bus.connected();
    let shutdown_of_work = shutdown.clone();
    let mut work = ConsumerLoop {
        queue,
        options,
        handler,
        ready,
        told: None,
        shutdown: shutdown_of_work,
        outage: None,
        prefetch: options.prefetch,
        connected,
    };
    let begun = work.begin(bus.as_ref()).await.with_context(|| format!("cannot consume `{queue}`"))?;
    let Some(mut consumer) = begun else { return Ok(()) };
    let mut connected = work.connected.clone();
    let batch_max = options.batch_max.min(BATCH_MAX);
    let mut gathered_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            // Fails for a bus that is always connected.
            Ok(()) = connected.changed() => work.tell(),
            batch = async {
                tokio::time::sleep_until(gathered_at.into()).await;
                consumer.next_batch(batch_max, options.batch_bytes_max).await
            } => match batch {
                Some(batch) => {
                    if !work.may_have_left_some(&batch) {
                        gathered_at = Instant::now() + options.gather;
                    }
                    work.process(batch).await;
                }
                None => return Ok(()),
            },
            // Others may have taken everything, and then nothing is left that would show whether it is over.
            () = tokio::time::sleep(options.outage_delays.max), if work.waits_for_a_sign() => work.waited_out(),
        }
        if work.prefetch != work.prefetch_wanted() {
            // Dropped, it gives back what it has not handed out.
            drop(consumer);
            consumer = match work.begin(bus.as_ref()).await {
                Ok(Some(consumer)) => consumer,
                // Closed meanwhile.
                Ok(None) | Err(_) => return Ok(()),
            };
        }
    }
}

struct ConsumerLoop<H, R> {
    queue: Queue,
    options: ConsumeOptions,
    handler: H,
    ready: R,
    /// What `ready` heard last.
    told: Option<bool>,
    shutdown: CancellationToken,
    outage: Option<Outage>,
    /// What the present consumer has.
    prefetch: usize,
    connected: watch::Receiver<bool>,
}

/// Something that the handler or the loop needs is away.
struct Outage {
    since: Instant,
    tries: u32,
    /// The next message, whenever it comes, shows whether it is over: until then it counts for nothing.
    is_waited_out: bool,
    /// It lasts: everything in hand was given back to those who can handle it, and one message at a time is tried.
    is_long: bool,
}

/// What came of handing messages to the handler.
enum Outcome {
    Done,
    Failed(String),
    Rejected(String),
    /// Shutdown came while something was unavailable, or it is unavailable for long.
    Interrupted,
}

impl<H: Handler, R: Fn(bool) + Send + Sync> ConsumerLoop<H, R> {
    /// `None` on shutdown; fails only when the bus is closed.
    async fn begin(&mut self, bus: &dyn Bus) -> Result<Option<Consumer>, BusError> {
        loop {
            self.prefetch = self.prefetch_wanted();
            match bus.consume(self.queue, self.prefetch).await {
                Ok(consumer) => {
                    // That there is a bus says nothing of what the handler needs.
                    self.outage.take_if(|outage| !outage.is_long);
                    self.tell();
                    return Ok(Some(consumer));
                }
                Err(_) if self.shutdown.is_cancelled() => return Ok(None),
                Err(BusError::Closed) => return Err(BusError::Closed),
                Err(error) => self.wait_out(&with_causes(error)).await,
            }
        }
    }

    /// Whether there may have been no room in this batch for what waits: by half, as the next message may be large.
    fn may_have_left_some(&self, batch: &[Delivery]) -> bool {
        let bytes: usize = batch.iter().map(|delivery| delivery.message.body.len()).sum();
        2 * batch.len() >= self.options.batch_max || 2 * bytes >= self.options.batch_bytes_max
    }

    async fn process(&mut self, batch: Vec<Delivery>) {
        let messages: Vec<Message> = batch.iter().map(|delivery| delivery.message.clone()).collect();
        match self.hand_over(&messages).await {
            Outcome::Done => self.settled(Delivery::ack_all(batch).await).await,
            Outcome::Interrupted => drop(batch),
            outcome if batch.len() == 1 => {
                for delivery in batch {
                    self.settle(delivery, &outcome).await;
                }
            }
            // One of them spoils the batch. Which one shows when each is handled alone.
            Outcome::Failed(reason) | Outcome::Rejected(reason) => {
                let queue = self.queue;
                tracing::warn!(%queue, batch.messages = batch.len(), reason, "batch failed, handling each message alone");
                for delivery in batch {
                    let outcome = self.hand_over(slice::from_ref(&delivery.message)).await;
                    self.settle(delivery, &outcome).await;
                }
            }
        }
    }

    /// Settles a message that was handled alone.
    async fn settle(&mut self, delivery: Delivery, outcome: &Outcome) {
        let failures = delivery.failures.saturating_add(1);
        let settled = match outcome {
            Outcome::Done => delivery.ack().await,
            Outcome::Interrupted => return drop(delivery),
            Outcome::Failed(reason) if failures < self.options.failures_max => {
                delivery.retry_later(self.options.retry_delays.after(failures), reason).await
            }
            Outcome::Failed(reason) | Outcome::Rejected(reason) => delivery.dead_letter(reason).await,
        };
        self.settled(settled).await;
    }

    /// A message that could not be settled is back in its queue. Waiting keeps it from coming round and round; then the
    /// next one, whichever it is and whenever it comes, shows whether settling works again.
    async fn settled(&mut self, result: Result<(), BusError>) {
        match result {
            Ok(()) => self.end_outage(),
            // The next batch will say so too.
            Err(BusError::Closed) => {}
            Err(error) => {
                self.wait_out(&with_causes(error)).await;
                self.waited_out();
            }
        }
    }

    /// Hands messages to the handler, again and again while something is unavailable. If that lasts they are not kept
    /// from those who can handle them, nor from whoever would take an empty queue for a sign that they were lost.
    async fn hand_over(&mut self, messages: &[Message]) -> Outcome {
        while !self.gives_up() {
            let handled = AssertUnwindSafe(self.handler.handle(messages)).catch_unwind().await;
            let reason = match handled {
                Ok(Ok(())) => return Outcome::Done,
                Ok(Err(HandleError::Failed(reason))) => return Outcome::Failed(reason),
                Ok(Err(HandleError::Rejected(reason))) => return Outcome::Rejected(reason),
                Ok(Err(HandleError::Unavailable(reason))) => reason,
                Err(panic) => return Outcome::Failed(format!("the handler panicked: {}", panic_text(&*panic))),
            };
            self.wait_out(&reason).await;
            if self.shutdown.is_cancelled() {
                return Outcome::Interrupted;
            }
        }
        Outcome::Interrupted
    }

    /// Whether what is in hand is to be given back: once in an outage, since a broker counts it.
    fn gives_up(&mut self) -> bool {
        if self.prefetch == 1 {
            return false;
        }
        let Some(outage) = &mut self.outage else { return false };
        if !outage.is_long && !outage.is_waited_out && outage.since.elapsed() >= self.options.outage_kept {
            let queue = self.queue;
            tracing::warn!(%queue, "still unavailable, what is in hand goes back and one message at a time is tried");
            outage.is_long = true;
        }
        outage.is_long
    }

    /// How many messages to have in hand.
    fn prefetch_wanted(&self) -> usize {
        let is_long = self.outage.as_ref().is_some_and(|outage| outage.is_long);
        if is_long { 1 } else { self.options.prefetch }
    }

    /// Nothing is in hand that would be tried again.
    fn waits_for_a_sign(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.is_long && !outage.is_waited_out)
    }

    fn waited_out(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.is_waited_out = true;
        }
        self.tell();
    }

    /// Waits for the next try of what is unavailable, or for shutdown. Says so once per outage.
    async fn wait_out(&mut self, reason: &str) {
        let outage = self.outage.get_or_insert_with(|| {
            tracing::warn!(queue = %self.queue, reason, "unavailable, consuming stops until it is back");
            Outage { since: Instant::now(), tries: 0, is_waited_out: false, is_long: false }
        });
        outage.tries = outage.tries.saturating_add(1);
        outage.is_waited_out = false;
        let delay = self.options.outage_delays.after(outage.tries);
        self.tell();
        self.shutdown.run_until_cancelled(tokio::time::sleep(delay)).await;
    }

    fn end_outage(&mut self) {
        if let Some(outage) = self.outage.take() {
            let duration_ms = outage.since.elapsed().as_millis();
            tracing::info!(queue = %self.queue, duration_ms, tries = outage.tries, "available again, consuming goes on");
            self.tell();
        }
    }

    /// Says whether it works at present, where that is news.
    fn tell(&mut self) {
        let ready = self.outage.as_ref().is_none_or(|outage| outage.is_waited_out) && *self.connected.borrow();
        if self.told.replace(ready) != Some(ready) {
            (self.ready)(ready);
        }
    }
}

fn with_causes(error: BusError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// What a panic said, where it said anything.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
