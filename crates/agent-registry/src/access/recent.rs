//! What was looked up a moment ago, so that a busy client does not make every request a question to the database.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// After this it is looked up again: how long a key that was revoked at another replica still works here.
const FRESH_FOR: TimeDelta = TimeDelta::seconds(2);
/// More than are in use at once; beyond it everything is looked up again.
const ENTRIES_MAX: usize = 10_000;

/// Answers by question, each good for two seconds.
pub(crate) struct Recent<K, V>(Mutex<HashMap<K, (V, DateTime<Utc>)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// What was answered a moment ago.
    pub(crate) fn get(&self, key: &K, now: DateTime<Utc>) -> Option<V> {
        let entries = self.lock();
        let (value, at) = entries.get(key)?;
        ((now - *at).abs() < FRESH_FOR).then(|| value.clone())
    }

    /// Keeps an answer that was true at `now`.
    pub(crate) fn put(&self, key: K, value: V, now: DateTime<Utc>) {
        let mut entries = self.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, (value, now));
    }

    /// Forgets everything: something changed.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (V, DateTime<Utc>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
