//! What was written and is to be announced: from those who write to the announcer.
//!
//! In memory only: what a crash loses of it, the announcer finds in the table as not held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::documents::Written;
use crate::store::documents::DocumentName;

/// Where writers leave the names of documents that they wrote. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fresh: Mutex<Vec<DocumentName>>,
    wake: Notify,
}

impl Outbox {
    /// Hands over what a committed transaction wrote.
    pub(crate) fn announce(&self, written: Written) {
        if !written.is_empty() {
            self.lock().extend(written);
            self.0.wake.notify_one();
        }
    }

    /// Takes what was handed over.
    pub(crate) fn take(&self) -> Vec<DocumentName> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something is handed over, unless something was since the last time.
    pub(crate) async fn written(&self) {
        self.0.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DocumentName>> {
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
