//! Answers of the service registry that runs share: those to whom the same answer applies wait for one question, and use
//! what came of it for a while.
//!
//! A question whose asker is cut off is asked by one of those who wait. What is kept is bounded by its bytes, beyond
//! which the oldest goes: whoever waits for it waits on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use model::service::CallableService;
use tokio::sync::OnceCell;

use super::lookup::Key;

/// How long an answer is used, and how long it is that none came.
const FRESH_FOR: TimeDelta = TimeDelta::seconds(30);
const FAILED_FOR: TimeDelta = TimeDelta::seconds(1);
/// The most bytes of answers that are kept, and what a question takes beside its answer, about.
const BYTES_MAX: usize = 16 * 1024 * 1024;
const QUESTION_BYTES: usize = 512;

/// What came of a question, and when: an answer is as old as its question, a failure as old as itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) at: DateTime<Utc>,
    pub(super) services: Result<Arc<[CallableService]>, String>,
}

impl Answer {
    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        let used_for = if self.services.is_ok() { FRESH_FOR } else { FAILED_FOR };
        now - self.at < used_for
    }
}

/// A question with its answer, once there is one. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Question {
    number: u64,
    pub(super) answer: Arc<OnceCell<Answer>>,
}

/// Questions and their answers.
#[derive(Default)]
pub(super) struct Kept(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// The number of the question that was last asked for each key.
    newest: HashMap<Arc<Key>, u64>,
    /// Those questions in the order of their age, each with the bytes that it takes.
    questions: BTreeMap<u64, (Arc<Key>, Question, usize)>,
    next: u64,
    bytes: usize,
}

impl Kept {
    /// The question that is being asked for this key, or whose answer is fresh; else a new one.
    pub(super) fn question(&self, key: Key, now: DateTime<Utc>) -> Question {
        let mut shelf = self.lock();
        let known = shelf.newest.get(&key).and_then(|number| shelf.questions.get(number));
        if let Some((_, question, _)) = known
            && question.answer.get().is_none_or(|answer| answer.is_fresh(now))
        {
            return question.clone();
        }
        shelf.add(key)
    }

    /// The answer to a question takes so many bytes.
    pub(super) fn weigh(&self, question: &Question, bytes: usize) {
        let mut shelf = self.lock();
        if let Some((_, _, taken)) = shelf.questions.get_mut(&question.number) {
            *taken += bytes;
            shelf.bytes += bytes;
        }
        shelf.make_room();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn add(&mut self, key: Key) -> Question {
        let bytes = QUESTION_BYTES + key.organisation.len() + key.username.len() + size_of_val(key.groups.as_slice());
        let (key, number) = (Arc::new(key), self.next);
        self.next += 1;
        if let Some(replaced) = self.newest.insert(Arc::clone(&key), number)
            && let Some((_, _, bytes)) = self.questions.remove(&replaced)
        {
            self.bytes -= bytes;
        }
        let question = Question { number, answer: Arc::default() };
        self.questions.insert(number, (key, question.clone(), bytes));
        self.bytes += bytes;
        self.make_room();
        question
    }

    fn make_room(&mut self) {
        while self.bytes > BYTES_MAX
            && let Some((_, (key, _, bytes))) = self.questions.pop_first()
        {
            self.newest.remove(&key);
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(username: &str) -> Key {
        Key { organisation: "acme".to_owned(), username: username.to_owned(), groups: vec![] }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn answer(kept: &Kept, question: &Question, bytes: usize) {
        question.answer.set(Answer { at: now(), services: Ok([].into()) }).unwrap();
        kept.weigh(question, bytes);
    }

    #[test]
    fn beyond_its_bytes_the_oldest_answer_goes() {
        let kept = Kept::default();
        let questions = ["ann", "ben", "eve"].map(|username| kept.question(key(username), now()));
        for question in &questions {
            answer(&kept, question, BYTES_MAX / 3);
        }
        // With the questions themselves, three thirds are too much.
        assert_eq!(kept.question(key("ben"), now()).number, questions[1].number);
        assert_eq!(kept.question(key("eve"), now()).number, questions[2].number);
        assert!(kept.question(key("ann"), now()).number > questions[2].number);
        let shelf = kept.lock();
        assert_eq!((shelf.newest.len(), shelf.questions.len()), (3, 3));
        assert_eq!(shelf.bytes, shelf.questions.values().map(|(_, _, bytes)| bytes).sum::<usize>());
    }

    #[test]
    fn what_is_asked_anew_takes_the_place_of_what_it_was() {
        let kept = Kept::default();
        for minute in 0..100 {
            let question = kept.question(key("ann"), now() + TimeDelta::minutes(minute));
            question.answer.set(Answer { at: now() + TimeDelta::minutes(minute), services: Ok([].into()) }).unwrap();
            kept.weigh(&question, 1_000);
        }
        let shelf = kept.lock();
        assert_eq!((shelf.newest.len(), shelf.questions.len()), (1, 1));
        assert!(shelf.bytes < 2_000);
    }

    #[test]
    fn questions_that_nobody_answers_go_too() {
        let kept = Kept::default();
        for number in 0..BYTES_MAX / QUESTION_BYTES {
            kept.question(key(&number.to_string()), now());
        }
        let shelf = kept.lock();
        assert!(shelf.bytes <= BYTES_MAX && shelf.questions.len() == shelf.newest.len());
        assert!(!shelf.newest.contains_key(&key("0")));
    }
}
