//! Slots for runs, and room for large answers among them.
//!
//! A run holds its slot until its answer is confirmed, and the answer with it, in a few copies. As many answers as there
//! are slots, each as large as one may be, would be more than a process has: it would be killed, and whoever takes its
//! requests next as well. So only so many runs at a time may have a large answer, and half as many of one organisation.
//! Another that becomes large is not read any further until one of these is confirmed; the time of its run goes on, and
//! its log says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::id::OrganisationKey;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::run_log::RunLog;

/// The most bytes of an answer that needs no room of its own.
const SMALL_BYTES_MAX: usize = 1024 * 1024;

/// The most runs that have a larger answer at a time.
const LARGE_MAX: usize = 8;

/// The most of them of one organisation.
const LARGE_OF_ONE_MAX: usize = LARGE_MAX / 2;

/// The slots of a runner.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    large: Arc<Large>,
}

/// Held by one run. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    large: Arc<Large>,
    held: Held,
}

/// The room for large answers.
#[derive(Debug)]
struct Large {
    all: Arc<Semaphore>,
    own: Mutex<HashMap<OrganisationKey, Weak<Semaphore>>>,
}

/// What one run holds of it: its organisation's, and everybody's.
type Held = Arc<OnceCell<Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>>>;

/// The room that a run's answer has.
#[derive(Clone)]
pub(crate) struct Room {
    organisation: OrganisationKey,
    log: RunLog,
    large: Arc<Large>,
    held: Held,
}

impl Slots {
    /// So many.
    pub(crate) fn new(count: usize) -> Self {
        let large = Large { all: Arc::new(Semaphore::new(LARGE_MAX)), own: Mutex::default() };
        Self { free: Arc::new(Semaphore::new(count)), large: Arc::new(large) }
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
        Slot { _slot: slot, large: Arc::clone(&self.large), held: Held::default() }
    }
}

impl Slot {
    /// For what is read of an answer to a run of this organisation.
    pub(crate) fn room(&self, organisation: &OrganisationKey, log: &RunLog) -> Room {
        Room {
            organisation: organisation.clone(),
            log: log.clone(),
            large: Arc::clone(&self.large),
            held: Arc::clone(&self.held),
        }
    }
}

impl Large {
    /// An organisation's own, for as long as a run of it holds or awaits some.
    fn of(&self, organisation: &OrganisationKey) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, room| room.strong_count() > 0);
        if let Some(room) = own.get(organisation).and_then(Weak::upgrade) {
            return room;
        }
        let room = Arc::new(Semaphore::new(LARGE_OF_ONE_MAX));
        own.insert(organisation.clone(), Arc::downgrade(&room));
        room
    }
}

impl Room {
    /// Returns when an answer of so many bytes may be kept until the slot is free.
    pub(crate) async fn hold(&self, bytes: usize) {
        if bytes > SMALL_BYTES_MAX {
            self.held.get_or_init(|| self.take()).await;
        }
    }

    async fn take(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = self.large.of(&self.organisation);
        if own.available_permits() == 0 || self.large.all.available_permits() == 0 {
            self.log.line("the answer is large, and is read on when other large ones have been passed on");
        }
        let own = own.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.large.all).acquire_owned().await.ok()?;
        Some((own, all))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use service_kit::clock::Clock;

    use super::*;

    const LARGE: usize = SMALL_BYTES_MAX + 1;

    /// Slots, and rooms of as many runs of each of these organisations.
    fn rooms<const N: usize>(slots: &Slots, runs: [(&str, usize); N]) -> [Vec<(Slot, Room)>; N] {
        let log = RunLog::new(Clock::manual("2026-11-21T10:00:00Z".parse().unwrap()));
        runs.map(|(organisation, count)| {
            let organisation = OrganisationKey(organisation.to_owned());
            let room = |slot: Slot| {
                let room = slot.room(&organisation, &log);
                (slot, room)
            };
            (0..count).map(|_| room(slots.try_take().unwrap())).collect()
        })
    }

    #[tokio::test]
    async fn only_so_many_answers_are_large_until_a_slot_is_free_again() {
        let slots = Slots::new(10);
        let [mut acme, globex, initech] = rooms(&slots, [("acme", 4), ("globex", 4), ("initech", 2)]);
        assert!(slots.try_take().is_none());
        for (_, room) in acme.iter().chain(&globex) {
            room.hold(LARGE).await;
            // It is large already.
            room.hold(10 * LARGE).await;
        }
        initech[0].1.hold(SMALL_BYTES_MAX).await;
        assert_eq!(initech[1].1.hold(LARGE).now_or_never(), None);
        acme.pop();
        assert_eq!(initech[1].1.hold(LARGE).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn one_organisation_leaves_room_to_the_others() {
        let slots = Slots::new(6);
        let [mut acme, globex] = rooms(&slots, [("acme", 5), ("globex", 1)]);
        for (_, room) in &acme[..LARGE_OF_ONE_MAX] {
            room.hold(LARGE).await;
        }
        assert_eq!(acme[LARGE_OF_ONE_MAX].1.hold(LARGE).now_or_never(), None);
        assert_eq!(globex[0].1.hold(LARGE).now_or_never(), Some(()));
        acme.remove(0);
        assert_eq!(acme[LARGE_OF_ONE_MAX - 1].1.hold(LARGE).now_or_never(), Some(()));
    }
}
