//! Slots for runs, and room for large answers among them.
//!
//! A run holds its slot until its answer is confirmed, and the answer with it, in a few copies. As many answers as there
//! are slots, each as large as one may be, would be more than a process has: it would be killed, and whoever takes its
//! requests next as well. So only so many runs at a time may have a large answer. Another that becomes large is not read
//! any further until one of these is confirmed; the time of its run goes on.

use std::sync::Arc;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// The most bytes of an answer that needs no room of its own.
const SMALL_BYTES_MAX: usize = 1024 * 1024;

/// The most runs that have a larger answer at a time.
const LARGE_MAX: usize = 8;

/// The slots of a runner.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Held by one run. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    room: Room,
}

/// The room that a run's answer has.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    large: Arc<Semaphore>,
    held: Arc<OnceCell<Option<OwnedSemaphorePermit>>>,
}

impl Slots {
    /// So many.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), large: Arc::new(Semaphore::new(LARGE_MAX)) }
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Waits for one; `None` never comes, since they are never closed.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let slot = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(self.slot(slot))
    }

    /// One, if one is free.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        let slot = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.slot(slot))
    }

    fn slot(&self, slot: OwnedSemaphorePermit) -> Slot {
        Slot { _slot: slot, room: Room { large: Arc::clone(&self.large), held: Arc::default() } }
    }
}

impl Slot {
    /// For what is read of the answer.
    pub(crate) fn room(&self) -> Room {
        self.room.clone()
    }
}

impl Room {
    /// Returns when an answer of so many bytes may be kept until the slot is free.
    pub(crate) async fn hold(&self, bytes: usize) {
        if bytes > SMALL_BYTES_MAX {
            let large = || Arc::clone(&self.large).acquire_owned();
            self.held.get_or_init(async || large().await.ok()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_so_many_answers_are_large_until_a_slot_is_free_again() {
        let slots = Slots::new(LARGE_MAX + 2);
        let mut taken: Vec<Slot> = (0..LARGE_MAX + 2).map(|_| slots.try_take().unwrap()).collect();
        assert!(slots.try_take().is_none());
        let small = taken.pop().unwrap();
        let waits = taken.pop().unwrap().room();
        for slot in &taken {
            slot.room().hold(SMALL_BYTES_MAX + 1).await;
            // It is large already.
            slot.room().hold(10 * SMALL_BYTES_MAX).await;
        }
        small.room().hold(SMALL_BYTES_MAX).await;
        assert_eq!(waits.hold(SMALL_BYTES_MAX + 1).now_or_never(), None);
        drop(taken.remove(0));
        assert_eq!(waits.hold(SMALL_BYTES_MAX + 1).now_or_never(), Some(()));
    }
}
