//! What is in each queue, in memory: ids, sizes and who has what in hand. Bodies stay in the file.
//!
//! Pure bookkeeping without I/O; the writer applies each change after it was committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::bus::Depth;
use crate::topology::Queue;

/// Names one consumer of this process.
pub(super) type ConsumerId = u64;

/// A message as the index knows it: some bytes, whatever the size of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The row, which is also the place in the order.
    pub(super) id: i64,
    /// The size of the body.
    pub(super) bytes: u32,
    /// Whether it was handed out before, or may have been: it was in the file when the bus was opened.
    pub(super) redelivered: bool,
}

/// All queues.
#[derive(Default)]
pub(super) struct Index {
    queues: HashMap<Queue, QueueIndex>,
    unacknowledged: HashMap<ConsumerId, usize>,
}

#[derive(Default)]
struct QueueIndex {
    /// By id, so that what comes back takes its old place.
    ready: BTreeMap<i64, (u32, bool)>,
    leased: HashMap<i64, Leased>,
    delayed: BTreeSet<(Instant, i64, u32)>,
}

struct Leased {
    consumer: ConsumerId,
    bytes: u32,
}

impl Index {
    /// A message that can be handed out at once.
    pub(super) fn add_ready(&mut self, queue: Queue, entry: Entry) {
        self.queue(queue).ready.insert(entry.id, (entry.bytes, entry.redelivered));
    }

    /// A message that waits until `due`.
    pub(super) fn add_delayed(&mut self, queue: Queue, entry: Entry, due: Instant) {
        self.queue(queue).delayed.insert((due, entry.id, entry.bytes));
    }

    /// Hands the oldest ready messages to a consumer: at most `max`, and at most `max_bytes` unless the first alone is
    /// larger.
    pub(super) fn lease(&mut self, queue: Queue, consumer: ConsumerId, max: usize, max_bytes: usize) -> Vec<Entry> {
        let queue = self.queues.entry(queue).or_default();
        let mut taken: Vec<Entry> = Vec::new();
        let mut bytes_taken = 0_usize;
        while taken.len() < max {
            let Some(first) = queue.ready.first_entry() else { break };
            let (bytes, redelivered) = *first.get();
            bytes_taken = bytes_taken.saturating_add(bytes as usize);
            if !taken.is_empty() && bytes_taken > max_bytes {
                break;
            }
            let (id, _) = first.remove_entry();
            queue.leased.insert(id, Leased { consumer, bytes });
            taken.push(Entry { id, bytes, redelivered });
        }
        if !taken.is_empty() {
            *self.unacknowledged.entry(consumer).or_default() += taken.len();
        }
        taken
    }

    /// The message is settled, or gone; whether it was in anybody's hand.
    pub(super) fn end_lease(&mut self, queue: Queue, id: i64) -> Option<Entry> {
        let leased = self.queue(queue).leased.remove(&id)?;
        if let Some(count) = self.unacknowledged.get_mut(&leased.consumer) {
            *count -= 1;
            if *count == 0 {
                self.unacknowledged.remove(&leased.consumer);
            }
        }
        Some(Entry { id, bytes: leased.bytes, redelivered: true })
    }

    /// The message goes back to its old place.
    pub(super) fn give_back(&mut self, queue: Queue, id: i64) {
        if let Some(entry) = self.end_lease(queue, id) {
            self.add_ready(queue, entry);
        }
    }

    /// Makes ready what is due.
    pub(super) fn promote_due(&mut self, now: Instant) {
        for queue in self.queues.values_mut() {
            while let Some((due, id, bytes)) = queue.delayed.first().copied().filter(|(due, ..)| *due <= now) {
                queue.delayed.remove(&(due, id, bytes));
                queue.ready.insert(id, (bytes, true));
            }
        }
    }

    /// When the next delayed message is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.delayed.first().map(|(due, ..)| *due)).min()
    }

    /// How many messages a consumer has in hand.
    pub(super) fn unacknowledged_by(&self, consumer: ConsumerId) -> usize {
        self.unacknowledged.get(&consumer).copied().unwrap_or(0)
    }

    /// Whether nobody has anything in hand.
    pub(super) fn nothing_in_hand(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// How much is in a queue.
    pub(super) fn depth(&self, queue: Queue) -> Depth {
        self.queues.get(&queue).map_or_else(Depth::default, |queue| Depth {
            ready: queue.ready.len() as u64,
            unacknowledged: queue.leased.len() as u64,
            delayed: queue.delayed.len() as u64,
        })
    }

    fn queue(&mut self, queue: Queue) -> &mut QueueIndex {
        self.queues.entry(queue).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const QUEUE: Queue = Queue::AgentRunnerRuns;

    fn index_of(count: i64) -> Index {
        let mut index = Index::default();
        for id in 1..=count {
            index.add_ready(QUEUE, Entry { id, bytes: 10, redelivered: false });
        }
        index
    }

    fn ids(entries: &[Entry]) -> Vec<i64> {
        entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn what_is_given_back_takes_its_old_place() {
        let mut index = index_of(4);
        assert_eq!(ids(&index.lease(QUEUE, 1, 3, usize::MAX)), [1, 2, 3]);
        index.give_back(QUEUE, 2);
        let next = index.lease(QUEUE, 1, 9, usize::MAX);
        assert_eq!(ids(&next), [2, 4]);
        assert_eq!(next.iter().map(|entry| entry.redelivered).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_batch_keeps_to_its_bytes_but_has_at_least_one_message() {
        let mut index = index_of(4);
        assert_eq!(ids(&index.lease(QUEUE, 1, 9, 25)), [1, 2]);
        assert_eq!(ids(&index.lease(QUEUE, 1, 9, 5)), [3]);
    }

    #[test]
    fn every_lease_is_counted_until_it_ends() {
        let mut index = index_of(3);
        index.lease(QUEUE, 7, 3, usize::MAX);
        assert_eq!(index.unacknowledged_by(7), 3);
        assert_eq!(index.depth(QUEUE), Depth { ready: 0, unacknowledged: 3, delayed: 0 });
        for id in 1..=3 {
            assert!(index.end_lease(QUEUE, id).is_some());
            assert!(index.end_lease(QUEUE, id).is_none());
        }
        assert!(index.nothing_in_hand());
        assert!(index.depth(QUEUE).is_empty());
    }

    #[test]
    fn a_delayed_message_is_ready_when_it_is_due_and_not_before() {
        let mut index = Index::default();
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        index.add_delayed(QUEUE, Entry { id: 1, bytes: 10, redelivered: true }, due);
        index.promote_due(now);
        assert_eq!(index.depth(QUEUE), Depth { delayed: 1, ..Depth::default() });
        assert_eq!(index.next_due(), Some(due));
        index.promote_due(due);
        assert_eq!(index.depth(QUEUE), Depth { ready: 1, ..Depth::default() });
        assert_eq!(index.next_due(), None);
    }
}
