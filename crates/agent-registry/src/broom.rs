//! What wakes the sweeper.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the sweeper when there is something to sweep. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Broom(Arc<Notify>);

impl Broom {
    /// There is something to sweep.
    pub(crate) fn sweep_now(&self) {
        self.0.notify_one();
    }

    /// Waits until there is, unless there was since the last time.
    pub(crate) async fn taken_up(&self) {
        self.0.notified().await;
    }
}
