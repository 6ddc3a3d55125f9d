//! What the rest of the process asks of the writer thread.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::index::ConsumerId;
use crate::bus::{DeadLetter, Depth};
use crate::consumer::{Delivery, Settlement, Settler};
use crate::error::Cause;
use crate::message::Message;
use crate::topology::Queue;

/// An answer of the writer. Dropped without one, the bus is closed.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Cause>>;

/// One request to the writer.
pub(super) enum Command {
    /// Changes the file; answered after the commit with the number of messages.
    Write(Write),
    /// Wants messages.
    Take(Take),
    /// Was dropped unsettled.
    GiveBack {
        queue: Queue,
        id: i64,
    },
    /// Wants no more messages.
    Forget(ConsumerId),
    Depth {
        queue: Queue,
        reply: Reply<Depth>,
    },
    DeadLetters {
        queue: Queue,
        limit: usize,
        reply: Reply<Vec<DeadLetter>>,
    },
    /// Finish what is in hand, then end; answered when the file is closed.
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// A change of the file, and who waits for it.
pub(super) struct Write {
    pub(super) change: Change,
    pub(super) reply: Reply<u64>,
}

/// One change of the file.
pub(super) enum Change {
    Publish(Vec<Message>),
    Settle { queue: Queue, settlements: Vec<Settlement> },
    RequeueDeadLetters(Queue),
    DiscardDeadLetters(Queue),
}

/// A consumer that waits for messages.
pub(super) struct Take {
    pub(super) consumer: ConsumerId,
    pub(super) queue: Queue,
    pub(super) prefetch: usize,
    pub(super) max: usize,
    pub(super) max_bytes: usize,
    pub(super) settler: Arc<dyn Settler>,
    /// Gets whole deliveries, so that whatever a consumer no longer receives goes back by itself.
    pub(super) reply: oneshot::Sender<Vec<Delivery>>,
}
