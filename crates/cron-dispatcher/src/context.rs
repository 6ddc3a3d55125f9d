//! What every role of the dispatcher shares.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::Bus;
use service_kit::admin::Condition;
use service_kit::clock::Clock;
use service_kit::database::Db;
use service_kit::error::chain;
use service_kit::traces::Traces;
use tokio::sync::Notify;

use crate::config::DispatcherConfig;
use crate::error::DispatchError;

/// The name of this microservice.
pub(crate) const NAME: &str = "cron-dispatcher";

/// How long a schedule that cannot be fired is left alone.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// What every role of the dispatcher shares.
pub(crate) struct Context {
    pub(crate) config: DispatcherConfig,
    pub(crate) db: Db,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    /// Where spans go.
    pub(crate) traces: Traces,
    /// Whether this host's clock may be trusted: nothing is claimed while it may not.
    pub(crate) clock_agrees: AtomicBool,
    /// Schedules that could not be fired, and until when they are not tried again.
    pub(crate) aside: Mutex<HashMap<i64, Instant>>,
    /// Schedules were planned anew: something may be due earlier than thought.
    pub(crate) schedules_changed: Notify,
    /// Runs were made, or left the window.
    pub(crate) runs_queued: Notify,
    /// An organisation goes by another zone.
    pub(crate) zones_changed: Notify,
    /// Whether any run waited for a place when the window was last looked at: only then does one that left it matter.
    pub(crate) runs_wait: AtomicBool,
    /// Whether the database and the bus do what they are asked.
    pub(crate) working: Condition,
}

impl Context {
    /// Whether this host's clock may be gone by. While it may not, nothing is claimed, and nobody is judged.
    pub(crate) fn knows_the_time(&self) -> bool {
        self.clock_agrees.load(Ordering::Relaxed)
    }

    /// The database and the bus do what they are asked; passes on what came of it.
    pub(crate) fn works<T>(&self, outcome: T) -> T {
        self.working.met();
        outcome
    }

    /// Agents whose schedules are not to be fired at present.
    pub(crate) fn set_aside(&self) -> Vec<i64> {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|_, until| *until > Instant::now());
        aside.keys().copied().collect()
    }

    /// Leaves an agent's schedule alone for a while.
    pub(crate) fn put_aside(&self, agent_id: i64) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.insert(agent_id, Instant::now() + SET_ASIDE);
    }

    /// Something did not work, and is tried again: says so. Passes on that nothing came of it.
    pub(crate) fn troubled<T: Default>(&self, what: &str, error: &DispatchError) -> T {
        self.working.unmet(what);
        tracing::error!(error = chain(error), "{what}, trying again");
        T::default()
    }
}
