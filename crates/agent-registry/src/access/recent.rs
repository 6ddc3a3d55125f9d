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
pub(crate) struct Recent<K, V>(Mutex<Entries<K, V>>);

struct Entries<K, V> {
    by_question: HashMap<K, (V, DateTime<Utc>)>,
    /// How many changes there were.
    changes: u64,
}

/// That there is no answer yet, and since when: what is looked up now may have changed before it is put here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unanswered {
    changes: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Entries { by_question: HashMap::new(), changes: 0 }))
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// What was answered a moment ago. Else look it up, and [`put`](Self::put) it.
    pub(crate) fn get(&self, key: &K, now: DateTime<Utc>) -> Result<V, Unanswered> {
        let entries = self.lock();
        let fresh = entries.by_question.get(key).filter(|(_, at)| (now - *at).abs() < FRESH_FOR);
        fresh.map(|(value, _)| value.clone()).ok_or(Unanswered { changes: entries.changes })
    }

    /// Keeps an answer that was true at `now`, unless something changed since it was asked for.
    pub(crate) fn put(&self, asked: Unanswered, key: K, value: V, now: DateTime<Utc>) {
        let mut entries = self.lock();
        if entries.changes != asked.changes {
            return;
        }
        if entries.by_question.len() >= ENTRIES_MAX {
            entries.by_question.clear();
        }
        entries.by_question.insert(key, (value, now));
    }

    /// Forgets everything, also what is being looked up: something changed.
    pub(crate) fn clear(&self) {
        let mut entries = self.lock();
        entries.by_question.clear();
        entries.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> DateTime<Utc> {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_answer_is_good_for_two_seconds() {
        let recent = Recent::default();
        let asked = recent.get(&1, noon()).unwrap_err();
        recent.put(asked, 1, "one", noon());
        assert_eq!(recent.get(&1, noon() + TimeDelta::milliseconds(1_999)), Ok("one"));
        assert!(recent.get(&1, noon() + TimeDelta::seconds(2)).is_err());
        assert!(recent.get(&2, noon()).is_err());
    }

    #[test]
    fn what_was_asked_before_a_change_is_not_kept_after_it() {
        let recent = Recent::default();
        let before = recent.get(&1, noon()).unwrap_err();
        recent.clear();
        recent.put(before, 1, "revoked", noon());
        let after = recent.get(&1, noon()).unwrap_err();
        recent.put(after, 1, "new", noon());
        assert_eq!(recent.get(&1, noon()), Ok("new"));
    }
}
