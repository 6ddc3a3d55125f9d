//! What wakes the sweeper.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Wakes the sweeper when there is something to sweep. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Broom(Arc<Inner>);

#[derive(Default)]
struct Inner {
    wake: Notify,
    /// The organisations that want their logs kept for another time than when the sweeper last looked.
    changed: Mutex<BTreeSet<String>>,
}

impl Broom {
    /// There is something to sweep.
    pub(crate) fn sweep_now(&self) {
        self.0.wake.notify_one();
    }

    /// An organisation wants its logs kept for another time.
    pub(crate) fn retention_changed(&self, organisation: String) {
        self.0.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(organisation);
        self.sweep_now();
    }

    /// The organisations of which that was said since the last time.
    pub(crate) fn take_changed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is something to sweep, unless there was since the last time.
    pub(crate) async fn taken_up(&self) {
        self.0.wake.notified().await;
    }
}
