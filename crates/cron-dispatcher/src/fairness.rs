//! Whose run enters the window next: start-time fair queueing over organisations.
//!
//! Each run gets a turn when it is made; the window takes the lowest turns first. An organisation's runs get turns one
//! after another, so that those of several organisations interleave, and an organisation that was idle starts at the
//! turn that is served now, neither behind nor ahead of the others. A backlog of any size costs nothing to be fair to:
//! taking the next runs is one walk along an index.

use std::collections::HashMap;

/// Gives out turns.
#[derive(Debug)]
pub(crate) struct Turns {
    served: i64,
    last: HashMap<String, i64>,
}

impl Turns {
    /// `served`: the turn that is served now; `last`: the last turn that each organisation was given.
    pub(crate) fn new(served: i64, last: HashMap<String, i64>) -> Self {
        Self { served, last }
    }

    /// The turn of this organisation's next run.
    pub(crate) fn take(&mut self, organisation: &str) -> i64 {
        let turn = match self.last.get(organisation) {
            Some(last) => self.served.max(last + 1),
            None => self.served,
        };
        self.last.insert(organisation.to_owned(), turn);
        turn
    }

    /// How far the organisation's last turn is behind the one that is served now: about as many runs of it are queued.
    pub(crate) fn backlog(&self, organisation: &str) -> i64 {
        self.last.get(organisation).map_or(0, |last| (last - self.served).max(0))
    }

    /// The last turn of each organisation now.
    pub(crate) fn into_last(self) -> HashMap<String, i64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_organisation_does_not_wait_behind_a_large_one() {
        let mut turns = Turns::new(0, HashMap::new());
        let mut queue: Vec<(i64, &str)> = (0..1_000).map(|_| (turns.take("large"), "large")).collect();
        queue.extend((0..5).map(|_| (turns.take("small"), "small")));
        queue.sort_by_key(|(turn, _)| *turn);

        let last_small = queue.iter().rposition(|(_, organisation)| *organisation == "small").unwrap();
        assert!(last_small < 10, "the last of five came at place {last_small}");
    }

    #[test]
    fn an_organisation_that_was_idle_is_neither_behind_nor_ahead() {
        let mut turns = Turns::new(500, HashMap::from([("idle".to_owned(), 3), ("busy".to_owned(), 500)]));
        assert_eq!(turns.take("idle"), 500);
        assert_eq!(turns.take("busy"), 501);
        assert_eq!(turns.take("new"), 500);
    }
}
