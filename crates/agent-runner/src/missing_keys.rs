//! Keys that this runner needs and does not have, by the mentors whose API keys are sealed with them.
//!
//! In the middle of a rotation another runner has them, and requests that are put off come to this one again and again.
//! So the log and the readiness say what changes: one line when a mentor's key begins to be missing and one when it is
//! there, however many requests come between. Nobody says that a key is not needed any more (the run is cancelled, or
//! another runner has it): that none was missed for a while must do for the readiness.

use std::collections::HashMap;
use std::time::Duration;

use model::id::MentorId;
use service_kit::admin::Condition;
use tokio::time::Instant;

use crate::runner::KEY_DELAY;

/// No request has needed a missing key for so long: what was put off would have come again meanwhile, and more than
/// once.
const FORGOTTEN: Duration = KEY_DELAY.saturating_mul(3);
/// Most mentors remembered; that which was not heard of for the longest time is forgotten first.
const MENTORS_MAX: usize = 1_024;

/// What is missing at present.
pub(crate) struct MissingKeys {
    condition: Condition,
    /// When each was missed last.
    mentors: HashMap<MentorId, Instant>,
    missed_at: Option<Instant>,
}

impl MissingKeys {
    pub(crate) fn new(condition: Condition) -> Self {
        Self { condition, mentors: HashMap::new(), missed_at: None }
    }

    /// The key of a mentor's API key is not here. Returns whether that is news.
    pub(crate) fn missed(&mut self, mentor: MentorId, key: &str, now: Instant) -> bool {
        self.missed_at = Some(now);
        let is_news = self.mentors.insert(mentor, now).is_none();
        if self.mentors.len() > MENTORS_MAX
            && let Some(oldest) = self.mentors.iter().min_by_key(|(_, at)| **at).map(|(mentor, _)| *mentor)
        {
            self.mentors.remove(&oldest);
        }
        if is_news {
            tracing::error!(
                mentor.id = %mentor,
                key.id = key,
                "a mentor's API key is sealed with a key that is missing: add it to `secrets.keys`"
            );
        }
        self.condition.unmet("an API key is sealed with a key that is not among `secrets.keys`");
        is_news
    }

    /// A mentor's API key could be opened, or there is none any more.
    pub(crate) fn opened(&mut self, mentor: MentorId) {
        if self.mentors.remove(&mentor).is_none() {
            return;
        }
        tracing::info!(mentor.id = %mentor, "a mentor's API key can be opened again");
        if self.mentors.is_empty() {
            self.forget();
        }
    }

    /// Returns when no key was missed for a while; never, if none was missed.
    pub(crate) async fn unmissed(&self) {
        match self.forgotten_at() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Takes it that none is needed any more that is missing.
    pub(crate) fn forget(&mut self) {
        self.missed_at = None;
        self.condition.met();
    }

    fn forgotten_at(&self) -> Option<Instant> {
        self.missed_at.map(|at| at + FORGOTTEN)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::admin::Readiness;

    use super::*;

    fn new() -> (MissingKeys, Readiness) {
        let readiness = Readiness::new();
        let condition = readiness.condition("agent-runner.keys");
        condition.met();
        (MissingKeys::new(condition), readiness)
    }

    #[test]
    fn a_key_is_news_when_it_begins_to_be_missing_and_not_each_time_that_it_is_missed() {
        let (mut keys, readiness) = new();
        let now = Instant::now();
        assert!(keys.missed(MentorId(1), "k2", now));
        assert!(!keys.missed(MentorId(1), "k2", now + KEY_DELAY));
        assert!(keys.missed(MentorId(2), "k2", now + KEY_DELAY));
        assert!(!readiness.is_ready());
        keys.opened(MentorId(3));
        keys.opened(MentorId(1));
        assert!(!readiness.is_ready(), "another is missing still");
        keys.opened(MentorId(2));
        assert!(readiness.is_ready());
        assert!(keys.missed(MentorId(1), "k2", now + KEY_DELAY));
    }

    #[test]
    fn what_nobody_has_missed_for_a_while_is_forgotten() {
        let (mut keys, readiness) = new();
        let now = Instant::now();
        assert!(keys.forgotten_at().is_none());
        keys.missed(MentorId(1), "k2", now);
        keys.missed(MentorId(1), "k2", now + KEY_DELAY);
        assert_eq!(keys.forgotten_at(), Some(now + KEY_DELAY + FORGOTTEN));
        keys.forget();
        assert!(readiness.is_ready() && keys.forgotten_at().is_none());
        assert!(!keys.missed(MentorId(1), "k2", now + 2 * FORGOTTEN), "it is missing still");
        assert!(!readiness.is_ready());
    }

    #[test]
    fn only_so_many_mentors_are_remembered() {
        let (mut keys, _readiness) = new();
        let now = Instant::now();
        for mentor in 0..MENTORS_MAX + 2 {
            let later = Duration::from_millis(u64::try_from(mentor).unwrap());
            assert!(keys.missed(MentorId(i64::try_from(mentor).unwrap()), "k2", now + later));
        }
        assert_eq!(keys.mentors.len(), MENTORS_MAX);
        assert!(!keys.mentors.contains_key(&MentorId(1)) && keys.mentors.contains_key(&MentorId(2)));
    }
}
