//! What every role of the dispatcher shares.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bus::Bus;
use service_kit::admin::Condition;
use service_kit::clock::Clock;
use service_kit::database::Db;
use service_kit::error::chain;
use tokio::sync::Notify;

use crate::config::DispatcherConfig;
use crate::error::DispatchError;

/// The name of this microservice.
pub(crate) const NAME: &str = "cron-dispatcher";

/// What every role of the dispatcher shares.
pub(crate) struct Context {
    pub(crate) config: DispatcherConfig,
    pub(crate) db: Db,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    /// Whether this host's clock may be trusted: nothing is claimed while it may not.
    pub(crate) clock_agrees: AtomicBool,
    /// Schedules were planned anew: something may be due earlier than thought.
    pub(crate) schedules_changed: Notify,
    /// Runs were made, or left the window.
    pub(crate) runs_queued: Notify,
    /// Whether the database and the bus do what they are asked.
    pub(crate) working: Condition,
}

impl Context {
    /// The database and the bus do what they are asked; passes on what came of it.
    pub(crate) fn works<T>(&self, outcome: T) -> T {
        self.working.met();
        outcome
    }

    /// Something did not work, and is tried again: says so. Passes on that nothing came of it.
    pub(crate) fn troubled<T: Default>(&self, what: &str, error: &DispatchError) -> T {
        self.working.unmet(what);
        tracing::error!(error = chain(error), "{what}, trying again");
        T::default()
    }
}
