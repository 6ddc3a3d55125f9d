//! Changes of the file: what each writes, and what it means for the index once it is committed.

use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use super::command::Change;
use super::index::{Entry, Index};
use super::store::Store;
use crate::consumer::{Settlement, Verdict};
use crate::message::Message;
use crate::topology::Queue;

/// What a committed change means for the index.
pub(super) enum Effect {
    Ready(Queue, Entry),
    Delayed(Queue, i64, Instant),
    Gone(Queue, i64),
    Back(Queue, i64),
}

impl Effect {
    /// Only to be called after the commit.
    pub(super) fn take_place(self, index: &mut Index) {
        match self {
            Self::Ready(queue, entry) => index.add_ready(queue, entry),
            Self::Gone(queue, id) => drop(index.end_lease(queue, id)),
            Self::Back(queue, id) => index.give_back(queue, id),
            Self::Delayed(queue, id, due) => {
                if let Some(entry) = index.end_lease(queue, id) {
                    index.add_delayed(queue, entry, due);
                }
            }
        }
    }
}

/// Writes one change within a transaction; returns how many messages it is about, and what to tell the index.
pub(super) fn write(store: &mut Store, change: &Change, now: DateTime<Utc>) -> QueryResult<(u64, Vec<Effect>)> {
    match change {
        Change::Publish(messages) => publish(store, messages),
        Change::Settle { queue, settlements } => {
            let effects: QueryResult<Vec<_>> =
                settlements.iter().map(|settlement| settle(store, *queue, settlement, now)).collect();
            Ok((settlements.len() as u64, effects?))
        }
        Change::RequeueDeadLetters(queue) => {
            let rows = store.requeue_dead_letters(*queue)?;
            let effects = rows.iter().map(|(id, bytes)| {
                let bytes = u32::try_from(*bytes).unwrap_or(u32::MAX);
                Effect::Ready(*queue, Entry { id: *id, bytes, redelivered: true })
            });
            Ok((rows.len() as u64, effects.collect()))
        }
        Change::DiscardDeadLetters(queue) => Ok((store.discard_dead_letters(*queue)? as u64, Vec::new())),
    }
}

fn publish(store: &mut Store, messages: &[Message]) -> QueryResult<(u64, Vec<Effect>)> {
    let mut effects = Vec::with_capacity(messages.len());
    for message in messages {
        let bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
        for queue in Queue::bound_to(message.kind) {
            let id = store.insert(queue, message)?;
            effects.push(Effect::Ready(queue, Entry { id, bytes, redelivered: false }));
        }
    }
    Ok((messages.len() as u64, effects))
}

fn settle(store: &mut Store, queue: Queue, settlement: &Settlement, now: DateTime<Utc>) -> QueryResult<Effect> {
    let id = row_id(settlement);
    let failures = settlement.failures.saturating_add(1);
    Ok(match &settlement.verdict {
        Verdict::Ack => {
            store.delete(id)?;
            Effect::Gone(queue, id)
        }
        Verdict::Release => Effect::Back(queue, id),
        Verdict::RetryLater { delay } => {
            store.postpone(id, failures, now + *delay)?;
            Effect::Delayed(queue, id, Instant::now() + *delay)
        }
        Verdict::PutOff { delay } => {
            store.postpone(id, settlement.failures, now + *delay)?;
            Effect::Delayed(queue, id, Instant::now() + *delay)
        }
        Verdict::DeadLetter { reason } => {
            store.give_up(id, failures, reason, now)?;
            Effect::Gone(queue, id)
        }
    })
}

/// The embedded bus tags a delivery with its row.
pub(super) fn row_id(settlement: &Settlement) -> i64 {
    settlement.tag.cast_signed()
}
