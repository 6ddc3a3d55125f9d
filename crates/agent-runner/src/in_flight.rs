//! The runs in flight in this runner, and what it remembers of runs that are not.
//!
//! The deliveries of a run stay here while its mentor is asked. Whoever takes them out decides what becomes of the run:
//! its own task, to answer it; a cancel, to end it silently; or the shutdown, to give it back. So a run is answered at
//! most once, and never after it was cancelled or given back. Until its answer is confirmed, what is requested of it
//! again waits for that here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus::{Delivery, Message};
use chrono::{DateTime, TimeDelta, Utc};
use model::id::RunId;
use model::run::Run;
use tokio::task::AbortHandle;

/// How many ids are remembered of each kind; the oldest is forgotten first. More than the window of any dispatcher.
const REMEMBERED_MAX: usize = 65_536;

/// The most by which clocks differ: dispatchers that differ more do not work, and runners have their hosts'.
const CLOCK_DIFFERENCE_MAX: TimeDelta = TimeDelta::seconds(2);

/// One run attempt.
pub(crate) type RunKey = (RunId, u32);

/// Which run attempt a run is in.
pub(crate) fn key_of(run: &Run) -> RunKey {
    (run.id, run.run_attempt)
}

/// What became of a request.
pub(crate) enum Admission {
    /// Its run began.
    Started,
    /// Its run attempt is in flight already, or its answer on the way out; it will be settled with it.
    Joined,
    /// Nothing is to be done for it.
    Over(Delivery, Over),
}

/// Why nothing is to be done for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its run was cancelled before it arrived.
    Cancelled,
    /// The answer to its run attempt was confirmed after this was said: it comes again, or is a copy that was put off.
    Answered,
}

/// Runs in flight, and ids remembered.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<State>);

#[derive(Default)]
struct State {
    runs: BTreeMap<RunKey, Entry>,
    /// What was requested again while an answer is on its way out: acknowledged before that is confirmed, a crash would
    /// lose both.
    answering: HashMap<RunKey, Vec<Delivery>>,
    cancelled: Remembered<RunId, DateTime<Utc>>,
    answered: Remembered<RunKey, DateTime<Utc>>,
}

struct Entry {
    /// More than one when the request was delivered again while its run was in flight.
    deliveries: Vec<Delivery>,
    requested_at: DateTime<Utc>,
    task: AbortHandle,
}

impl InFlight {
    /// Begins a run with `start`, unless there is nothing to begin.
    pub(crate) fn admit(&self, run: RunKey, delivery: Delivery, start: impl FnOnce() -> AbortHandle) -> Admission {
        let mut state = self.lock();
        if let Some(over) = state.over(run, &delivery.message) {
            return Admission::Over(delivery, over);
        }
        if let Some(entry) = state.runs.get_mut(&run) {
            entry.deliveries.push(delivery);
            return Admission::Joined;
        }
        if let Some(again) = state.answering.get_mut(&run) {
            again.push(delivery);
            return Admission::Joined;
        }
        // The task cannot end before it stands here: it needs the lock that is held.
        let requested_at = delivery.message.time;
        state.runs.insert(run, Entry { deliveries: vec![delivery], requested_at, task: start() });
        state.show();
        Admission::Started
    }

    /// Whether, and why, nothing is to be done for a request.
    pub(crate) fn over(&self, run: RunKey, message: &Message) -> Option<Over> {
        self.lock().over(run, message)
    }

    /// Takes out a run that has an answer, which is to be confirmed; none: it was cancelled or given back meanwhile.
    pub(crate) fn finish(&self, run: RunKey) -> Option<Vec<Delivery>> {
        let mut state = self.lock();
        let entry = state.runs.remove(&run)?;
        state.answering.insert(run, Vec::new());
        state.show();
        Some(entry.deliveries)
    }

    /// The answer to these requests of a run is confirmed at `now`, and remembered. What was requested again meanwhile is
    /// added to them.
    pub(crate) fn confirmed(&self, run: RunKey, requests: &mut Vec<Delivery>, now: DateTime<Utc>) {
        let mut state = self.lock();
        requests.extend(state.answering.remove(&run).unwrap_or_default());
        // Those very requests may come again, whatever this clock says.
        let newest = requests.iter().map(|request| request.message.time).max();
        state.answered.insert(run, newest.map_or(now, |newest| newest.max(now)));
    }

    /// Stops these runs and remembers them. `at` is when that was said: what is requested clearly later, after a pause
    /// for instance, is meant to run.
    pub(crate) fn cancel(&self, runs: &[RunId], at: DateTime<Utc>) -> Vec<Delivery> {
        let mut state = self.lock();
        let mut stopped = Vec::new();
        for id in runs {
            state.cancelled.insert(*id, at);
            let keys: Vec<RunKey> = state
                .runs
                .range((*id, 0)..=(*id, u32::MAX))
                .filter(|(_, entry)| covers(at, entry.requested_at))
                .map(|(key, _)| *key)
                .collect();
            for entry in keys.iter().filter_map(|key| state.runs.remove(key)).collect::<Vec<_>>() {
                entry.task.abort();
                stopped.extend(entry.deliveries);
            }
        }
        state.show();
        stopped
    }

    /// Stops every run.
    pub(crate) fn stop_all(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        let runs = std::mem::take(&mut state.runs);
        state.show();
        let stop = |entry: Entry| {
            entry.task.abort();
            entry.deliveries
        };
        runs.into_values().flat_map(stop).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[expect(clippy::cast_precision_loss, reason = "there are never 2^52 runs in flight")]
    fn show(&self) {
        metrics::gauge!("carillon_runs_in_flight").set(self.runs.len() as f64);
    }

    fn over(&self, run: RunKey, message: &Message) -> Option<Over> {
        // What is requested clearly later is made anew by a dispatcher that has lost the answer.
        if self.answered.get(&run).is_some_and(|at| covers(*at, message.time)) {
            return Some(Over::Answered);
        }
        self.cancelled.get(&run.0).filter(|at| covers(**at, message.time)).map(|_| Over::Cancelled)
    }
}

/// Whether what was said of a run at `said_at`, a cancel or an answer, means a request made at `requested_at`.
fn covers(said_at: DateTime<Utc>, requested_at: DateTime<Utc>) -> bool {
    requested_at - CLOCK_DIFFERENCE_MAX <= said_at
}

/// A map that forgets its oldest entries.
struct Remembered<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Remembered<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_ids_are_remembered_and_the_oldest_goes_first() {
        let mut remembered = Remembered::default();
        for id in 0..REMEMBERED_MAX + 2 {
            remembered.insert(id, ());
            remembered.insert(id, ());
        }
        assert_eq!(remembered.values.len(), REMEMBERED_MAX);
        assert!(remembered.get(&1).is_none());
        assert!(remembered.get(&2).is_some());
    }

    #[test]
    fn what_is_said_of_a_run_means_what_was_requested_before_and_not_what_is_requested_anew() {
        let at = "2026-11-21T10:00:00Z".parse().unwrap();
        assert!(covers(at, at - TimeDelta::hours(1)));
        assert!(covers(at, at + TimeDelta::seconds(2)));
        assert!(!covers(at, at + TimeDelta::seconds(3)));
    }
}
