//! What a microservice writes to consume a queue: a handler that says how its batch went, and nothing more.
//!
//! [`run_consumer`](crate::run_consumer) is the loop around it, and settles. What it does with each answer:
//!
//! - done: acknowledges the whole batch in one write.
//! - [`HandleError::Unavailable`]: nobody's fault. Keeps the batch, is not ready, and tries the same batch again until
//!   it gets through. Nothing is counted. After [`ConsumeOptions::outage_kept`] all in hand goes back to the queue, where
//!   others may have it, and one message at a time is kept and tried until one gets through.
//! - [`HandleError::Failed`], and a handler that panics: if the batch had several messages, each is handled alone at
//!   once, so that one bad message takes no neighbour with it. A message that fails alone is retried later, and is a
//!   dead letter after [`ConsumeOptions::failures_max`] failures.
//! - [`HandleError::Rejected`]: as above, but a message rejected alone is a dead letter at once.

use std::time::Duration;

use async_trait::async_trait;

use crate::message::Message;

/// The most messages that a batch may have.
pub const BATCH_MAX: usize = 100;

/// The most bytes of bodies in a batch, unless its only message is larger.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// What a microservice does with the messages of one queue.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a batch of at least one message, all or nothing. Messages come at least once, and after a failure the
    /// same messages come again alone, so handling must be idempotent.
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError>;
}

/// Why a batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Nobody's fault: the database or the keys are away. It is tried again until it gets through.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The message's fault, as far as one can tell. It is counted and tried again later.
    #[error("failed: {0}")]
    Failed(String),
    /// Can never succeed: a dead letter at once.
    #[error("rejected: {0}")]
    Rejected(String),
}

/// Delays that double from try to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// Before the first retry.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

impl RetryDelays {
    /// The delay after so many failures, the last one included.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// How a queue is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// The most messages unacknowledged at a time. They are handled one batch after the other: twice `batch_max` keeps
    /// batches whole. With no more than `batch_max` a broker can send, while one batch is handled, only as many as the
    /// batch lacks, and two smaller batches take turns.
    pub prefetch: usize,
    /// The most messages in a batch; more than [`BATCH_MAX`] counts as that.
    pub batch_max: usize,
    /// The most bytes in a batch; a single larger message comes alone.
    pub batch_bytes_max: usize,
    /// How long after a batch that was less than half full more is gathered for the next: for queues of which nobody
    /// waits for an answer. A message that comes alone is handled at once, and what has piled up is not held up.
    pub gather: Duration,
    /// A message with so many failures is a dead letter.
    pub failures_max: u32,
    /// How long a failed message waits.
    pub retry_delays: RetryDelays,
    /// How long the loop waits while something is unavailable.
    pub outage_delays: RetryDelays,
    /// How long the messages in hand are kept while something is unavailable. Whoever is cut off alone should not keep
    /// them from others for longer; and a broker counts what is given back.
    pub outage_kept: Duration,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            prefetch: 2 * BATCH_MAX,
            batch_max: BATCH_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            gather: Duration::ZERO,
            failures_max: 20,
            retry_delays: RetryDelays { first: Duration::from_secs(1), max: Duration::from_secs(60) },
            outage_delays: RetryDelays { first: Duration::from_millis(100), max: Duration::from_secs(5) },
            outage_kept: Duration::from_secs(3),
        }
    }
}

impl ConsumeOptions {
    /// As by default, but gathered for so long: for what only says that something is done, which costs a transaction
    /// however much it says.
    #[must_use]
    pub fn gathering(gather: Duration) -> Self {
        Self { gather, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays = ConsumeOptions::default().retry_delays;
        let seconds: Vec<_> = (1..=8).map(|failures| delays.after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delays.after(u32::MAX), delays.max);
    }
}
