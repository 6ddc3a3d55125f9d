//! The contract: what a bus does, whatever carries its messages.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::consumer::{Consumer, Subscription};
use crate::error::{BusError, PublishError};
use crate::message::{BODY_BYTES_MAX, Message};
use crate::topology::Queue;

/// Carries messages between the microservices. Shared as `Arc<dyn Bus>`.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes messages to every queue bound to their kinds, in this order, and returns when all are confirmed:
    /// stored so that they survive a crash.
    ///
    /// # Errors
    ///
    /// [`PublishError::Unroutable`] and [`PublishError::TooLarge`] are mistakes of the caller, and nothing was
    /// published. After [`PublishError::Unavailable`] some messages may have been published and others not: publish
    /// all of them again, with the same ids.
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PublishError>;

    /// Starts to consume a queue. Several consumers, here or in other processes, share what it holds.
    ///
    /// `prefetch` is the most messages that the consumer has unacknowledged at a time, from 1 to 65,535. Where they are
    /// large it may be fewer.
    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Consumer, BusError>;

    /// Sends a message to every present [`Subscription`] in every process. Nothing is stored, nothing is confirmed:
    /// who does not listen now will not hear it.
    async fn broadcast(&self, message: Message) -> Result<(), PublishError>;

    /// Listens to broadcasts from now on.
    async fn subscribe(&self) -> Result<Subscription, BusError>;

    /// How much waits in a queue. A moment old when it is returned.
    async fn depth(&self, queue: Queue) -> Result<Depth, BusError>;

    /// The oldest dead letters of a queue, at most `limit`. They stay where they are.
    async fn dead_letters(&self, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Sends all dead letters of a queue back to its end, as if they had never failed. Returns how many.
    async fn requeue_dead_letters(&self, queue: Queue) -> Result<u64, BusError>;

    /// Throws away all dead letters of a queue. Returns how many.
    async fn discard_dead_letters(&self, queue: Queue) -> Result<u64, BusError>;

    /// Whether messages get through at present, followed from now on. A bus that nothing can part from its process
    /// always says yes.
    fn connected(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// Ends the bus: hands out nothing more, waits (ten seconds at most) until everything handed out is settled or
    /// dropped, then closes. Until then publishing and settling still work, for those who finish what they have in
    /// hand; afterwards everything answers that the bus is closed. What was not settled is delivered after the next
    /// opening.
    async fn close(&self);
}

/// What is in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waits to be handed out.
    pub ready: u64,
    /// Handed out and not settled yet: at least what is in hand in this process.
    pub unacknowledged: u64,
    /// Failed or put off, and waits for its next turn.
    pub delayed: u64,
}

impl Depth {
    /// Whether nothing is in the queue in any state.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was published.
    pub message: Message,
    /// How often it failed, the last time included.
    pub failures: u32,
    /// Why it failed the last time.
    pub reason: String,
    /// When it was given up.
    pub time: DateTime<Utc>,
}

/// Refuses what no bus may accept, before anything is published.
pub(crate) fn check_publishable(messages: &[Message]) -> Result<(), PublishError> {
    for message in messages {
        if Queue::bound_to(message.kind).next().is_none() {
            return Err(PublishError::Unroutable(message.kind));
        }
        if message.body.len() > BODY_BYTES_MAX {
            return Err(PublishError::TooLarge { bytes: message.body.len() });
        }
    }
    Ok(())
}
