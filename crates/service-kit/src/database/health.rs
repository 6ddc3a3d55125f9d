//! What a connection has been through: whether a statement of its transaction failed, and whether it was lost.
//!
//! Store functions give their errors any type, or none at all. What diesel tells of each statement does not lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use tokio::sync::Notify;

use super::error::is_outage;

/// One connection's health. Clones share it: one watches the connection, one is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// How many transactions, one inside the other, are open.
    depth: AtomicU32,
    /// The outermost of them in which a statement failed; 0 if none did.
    failed_at: AtomicU32,
    lost: AtomicBool,
    losses: Arc<Losses>,
}

/// The losses of connections to one database.
#[derive(Debug, Default)]
pub(super) struct Losses {
    count: AtomicU64,
    another: Notify,
}

impl Losses {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there are more than `seen`. For one to wait at a time.
    pub(super) async fn more_than(&self, seen: u64) {
        while self.count() <= seen {
            self.another.notified().await;
        }
    }

    fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.another.notify_one();
    }
}

impl Health {
    pub(super) fn new(losses: Arc<Losses>) -> Self {
        Self(Arc::new(State { losses, ..State::default() }))
    }

    /// Whether a statement failed since the transaction began, other than inside one that was rolled back.
    pub(super) fn statement_failed(&self) -> bool {
        self.0.failed_at.load(Ordering::Relaxed) != 0
    }

    /// Whether the connection itself is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn began(&self, depth: u32) {
        self.0.depth.store(depth, Ordering::Relaxed);
        if depth == 1 {
            self.0.failed_at.store(0, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: &diesel::result::Error) {
        let depth = self.0.depth.load(Ordering::Relaxed);
        let failed_at = self.0.failed_at.load(Ordering::Relaxed);
        if depth != 0 && (failed_at == 0 || depth < failed_at) {
            self.0.failed_at.store(depth, Ordering::Relaxed);
        }
        if is_outage(error) && !self.0.lost.swap(true, Ordering::Relaxed) {
            self.0.losses.add();
        }
    }

    fn rolled_back(&self, depth: u32) {
        self.0.depth.store(depth - 1, Ordering::Relaxed);
        if self.0.failed_at.load(Ordering::Relaxed) >= depth {
            self.0.failed_at.store(0, Ordering::Relaxed);
        }
    }
}

impl Instrumentation for Health {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::BeginTransaction { depth, .. } => self.began(depth.get()),
            InstrumentationEvent::CommitTransaction { depth, .. } => {
                self.0.depth.store(depth.get() - 1, Ordering::Relaxed)
            }
            InstrumentationEvent::RollbackTransaction { depth, .. } => self.rolled_back(depth.get()),
            InstrumentationEvent::FinishQuery { error: Some(error), .. } => self.failed(error),
            _ => {}
        }
    }
}
