//! What a consumer has in hand, and how it lets go of it.
//!
//! The two traits at the end are what an implementation of the bus provides behind [`Consumer`] and [`Delivery`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;

use crate::error::BusError;
use crate::message::Message;
use crate::topology::Queue;

/// The longest that a message may wait for its next turn. What takes longer belongs into a database.
pub(crate) const RETRY_DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// `carillon_dead_letters_total`: messages that this process gave up.
pub(crate) fn count_dead_letter(queue: Queue) {
    metrics::counter!("carillon_dead_letters_total", "queue" => queue.as_str()).increment(1);
}

/// Takes messages from one queue.
///
/// Dropped, it takes nothing more; deliveries already handed out stay with whoever has them.
pub struct Consumer {
    queue: Queue,
    source: Box<dyn Source>,
}

impl Consumer {
    pub(crate) fn new(queue: Queue, source: Box<dyn Source>) -> Self {
        // There from the start, at zero, so that the first one counts as an increase.
        metrics::counter!("carillon_dead_letters_total", "queue" => queue.as_str()).increment(0);
        Self { queue, source }
    }

    /// The queue that it takes from.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.queue
    }

    /// Waits for a message, then takes it with whatever else is ready at once: at most `max` messages, and at most
    /// `max_bytes` of bodies unless the first alone is larger. `None` once the bus is closed or closing.
    ///
    /// While as many messages as the prefetch allows are unacknowledged, it waits for one to be settled. Dropping the
    /// future loses nothing.
    pub async fn next_batch(&mut self, max: usize, max_bytes: usize) -> Option<Vec<Delivery>> {
        self.source.next_batch(max.max(1), max_bytes).await
    }
}

/// One message in hand. Whoever has it settles it by one of the methods; dropped, it goes back to its queue, and
/// nothing is counted.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often it failed before ([`Delivery::retry_later`]).
    pub failures: u32,
    /// Whether it may have been handed out before. Only a hint: it may be wrong either way.
    pub redelivered: bool,
    lease: Lease,
}

impl Delivery {
    pub(crate) fn new(message: Message, failures: u32, redelivered: bool, lease: Lease) -> Self {
        Self { message, failures, redelivered, lease }
    }

    /// Done: the message is gone for good when this returns.
    ///
    /// # Errors
    ///
    /// The message is then back in its queue and comes again; the same holds for the other ways to settle.
    pub async fn ack(self) -> Result<(), BusError> {
        Self::settle_all(vec![self], &Verdict::Ack).await
    }

    /// [`Delivery::ack`] for many at once, in one write where they come from one consumer.
    pub async fn ack_all(deliveries: Vec<Self>) -> Result<(), BusError> {
        Self::settle_all(deliveries, &Verdict::Ack).await
    }

    /// Failed, and it is the message's own failure: counts one and brings it back when `delay` (an hour at most) has
    /// passed, or somewhat later.
    pub async fn retry_later(self, delay: Duration, reason: &str) -> Result<(), BusError> {
        let failures = self.failures.saturating_add(1);
        let delay = delay.min(RETRY_DELAY_MAX);
        tracing::warn!(
            queue = %self.lease.queue, message.id = %self.message.id, message.kind = %self.message.kind,
            message.failures = failures, retry.delay_ms = delay.as_millis(), reason,
            "message failed, retrying later"
        );
        Self::settle_all(vec![self], &Verdict::RetryLater { delay }).await
    }

    /// Not here and not now, and not the message's fault: brings it back when `delay` (an hour at most) has passed, or
    /// somewhat later, as often as it takes. Nothing is counted, not by a broker either, and meanwhile it is
    /// [delayed](crate::Depth::delayed): in nobody's hand, and where anybody can see it.
    pub async fn put_off(self, delay: Duration) -> Result<(), BusError> {
        Self::put_off_all(vec![self], delay).await
    }

    /// [`Delivery::put_off`] for many at once.
    pub async fn put_off_all(deliveries: Vec<Self>, delay: Duration) -> Result<(), BusError> {
        Self::settle_all(deliveries, &Verdict::PutOff { delay: delay.min(RETRY_DELAY_MAX) }).await
    }

    /// Not now, and not the message's fault: back to the queue, at its old place where the bus can, nothing counted.
    /// It may come again at once, and a broker gives up what is released for ever: see [`Delivery::put_off`].
    pub async fn release(self) -> Result<(), BusError> {
        Self::settle_all(vec![self], &Verdict::Release).await
    }

    /// Never: puts it among the dead letters of the queue, where it stays until an operator decides.
    pub async fn dead_letter(self, reason: &str) -> Result<(), BusError> {
        tracing::error!(
            queue = %self.lease.queue, message.id = %self.message.id, message.kind = %self.message.kind,
            message.failures = self.failures.saturating_add(1), reason,
            "message given up, now a dead letter"
        );
        let queue = self.lease.queue;
        Self::settle_all(vec![self], &Verdict::DeadLetter { reason: reason.to_owned() }).await?;
        count_dead_letter(queue);
        Ok(())
    }

    /// Settles all in one call per settler, which for the deliveries of one consumer is one call. Tries every settler,
    /// and returns the first error.
    async fn settle_all(deliveries: Vec<Self>, verdict: &Verdict) -> Result<(), BusError> {
        let mut groups: Vec<(Arc<dyn Settler>, Vec<Settlement>)> = Vec::with_capacity(1);
        for Delivery { message, failures, lease, .. } in deliveries {
            let (tag, settler) = lease.end();
            let settlement = Settlement { tag, message, failures, verdict: verdict.clone() };
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &settler)) {
                Some((_, settlements)) => settlements.push(settlement),
                None => groups.push((settler, vec![settlement])),
            }
        }
        // All at once, so that none is forgotten if nobody waits to the end.
        let settled = groups.into_iter().map(async |(settler, settlements)| settler.settle(settlements).await);
        join_all(settled).await.into_iter().collect()
    }
}

/// Hears every broadcast from the moment it was made.
pub struct Subscription {
    broadcasts: BoxStream<'static, Message>,
}

impl Subscription {
    pub(crate) fn new(broadcasts: BoxStream<'static, Message>) -> Self {
        Self { broadcasts }
    }

    /// Waits for the next broadcast; `None` once the bus is closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        self.broadcasts.next().await
    }
}

/// Where the messages of a consumer come from.
#[async_trait]
pub(crate) trait Source: Send {
    /// See [`Consumer::next_batch`]; `max` is at least 1.
    async fn next_batch(&mut self, max: usize, max_bytes: usize) -> Option<Vec<Delivery>>;
}

/// Where the messages of a consumer go when it lets go of them.
#[async_trait]
pub(crate) trait Settler: Send + Sync {
    /// Makes all of these durable. On an error, what was not settled goes back to its queue. Goes on to the end even
    /// if the future is dropped half-way.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), BusError>;

    /// Puts back a message that nobody settled. Called on drop, so it must not wait.
    fn give_back(&self, tag: u64);
}

/// What is to become of one message in hand.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) tag: u64,
    /// For implementations that retry and give up by publishing elsewhere.
    pub(crate) message: Message,
    /// Before this verdict.
    pub(crate) failures: u32,
    pub(crate) verdict: Verdict,
}

/// How a message is settled.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Ack,
    RetryLater { delay: Duration },
    PutOff { delay: Duration },
    Release,
    DeadLetter { reason: String },
}

/// The duty to settle one message; dropped, it gives the message back.
pub(crate) struct Lease {
    queue: Queue,
    tag: u64,
    settler: Arc<dyn Settler>,
    ended: bool,
}

impl Lease {
    pub(crate) fn new(queue: Queue, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self { queue, tag, settler, ended: false }
    }

    /// Ends the duty: the caller settles.
    fn end(mut self) -> (u64, Arc<dyn Settler>) {
        self.ended = true;
        (self.tag, Arc::clone(&self.settler))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended {
            self.settler.give_back(self.tag);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("queue", &self.queue).field("tag", &self.tag).finish_non_exhaustive()
    }
}
