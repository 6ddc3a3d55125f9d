//! What a process needs before it takes work, and what of that is missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions of a process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

/// One condition, in the hands of the part that knows whether it is met.
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// No condition yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not met until somebody says so. In a process of several microservices their names
    /// lead: `cron-dispatcher.database`.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition { name: name.into(), readiness: self.clone() };
        // Without a log line: every part of every process starts like this.
        self.lock().insert(condition.name.clone(), Some("starting".to_owned()));
        condition.show(false);
        condition
    }

    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// What is not met, and why.
    #[must_use]
    pub fn unmet(&self) -> BTreeMap<String, String> {
        self.lock().iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    /// A panic elsewhere leaves the map whole: every change is one insert.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition is met.
    pub fn met(&self) {
        self.set(None);
    }

    /// The condition is not met; `reason` is for whoever looks at `/readyz`.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Hears from a consumer whether it works at present.
    pub fn of_consumer(self) -> impl Fn(bool) + Send + Sync {
        move |is_ready| if is_ready { self.met() } else { self.unmet("its database or the bus is away") }
    }

    fn show(&self, met: bool) {
        metrics::gauge!("carillon_condition_met", "condition" => self.name.clone()).set(f64::from(u8::from(met)));
    }

    /// Logs only what changes: a condition may be reported every second.
    fn set(&self, reason: Option<String>) {
        self.show(reason.is_none());
        let before = self.readiness.lock().insert(self.name.clone(), reason.clone());
        match (before.flatten(), reason) {
            (Some(_), None) => tracing::info!(condition = self.name, "ready"),
            (None, Some(reason)) => tracing::warn!(condition = self.name, reason, "not ready"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_condition_is_met() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (database, bus) = (readiness.condition("database"), readiness.condition("bus"));
        assert_eq!(readiness.unmet().len(), 2);
        database.met();
        bus.unmet("cannot reach the broker");
        assert_eq!(
            readiness.unmet().into_iter().collect::<Vec<_>>(),
            [("bus".into(), "cannot reach the broker".into())]
        );
        bus.met();
        assert!(readiness.is_ready());
    }
}
