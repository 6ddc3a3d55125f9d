//! The thread that owns the file: takes what is asked, commits it in groups, hands out messages.
//!
//! Everything that waits when the thread looks up is committed in one transaction, so the cost of making a change
//! durable is shared by all who ask at the same time, without anybody waiting for company.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use tokio::sync::oneshot;

use super::change::{self, Effect};
use super::command::{Change, Command, Take, Write};
use super::index::{Entry, Index};
use super::store::{Store, StoredRow, UnknownKind};
use crate::consumer::{Delivery, Lease, RETRY_DELAY_MAX};
use crate::error::Cause;
use crate::message::Message;
use crate::topology::Queue;

/// The most commands in one round, so that answers do not wait for ever behind new questions.
const ROUND_MAX: usize = 1000;

/// How long closing waits for what is in hand.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long the thread waits before it reads again after a failed read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Writer {
    store: Store,
    index: Index,
    /// Consumers that wait for messages; who has waited longest is first.
    takers: VecDeque<Take>,
    now: fn() -> DateTime<Utc>,
    /// Set while messages cannot be read from the file.
    next_read: Option<Instant>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Instant,
    replies: Vec<oneshot::Sender<()>>,
}

impl Writer {
    /// Reads what the file holds. All of it is ready: nobody can have anything in hand any more.
    pub(super) fn load(mut store: Store, now: fn() -> DateTime<Utc>) -> QueryResult<Self> {
        let mut index = Index::default();
        let (now_us, instant) = (now().timestamp_micros(), Instant::now());
        store.for_each(|row| index_stored(&mut index, row, now_us, instant))?;
        Ok(Self { store, index, takers: VecDeque::new(), now, next_read: None, closing: None })
    }

    /// Works until the bus is closed, or nobody is left who could ask. Returns who waits for the closing, to be told
    /// once the file is closed.
    pub(super) fn run(mut self, commands: &Receiver<Command>) -> Vec<oneshot::Sender<()>> {
        while let Some(round) = next_round(commands, self.wake_at()) {
            self.perform(round);
            self.index.promote_due(Instant::now());
            self.serve();
            if let Some(closing) = self.closing.take_if(|closing| closing.is_over(&self.index)) {
                return closing.replies;
            }
        }
        Vec::new()
    }

    /// When there is something to do without a command.
    fn wake_at(&self) -> Option<Instant> {
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [self.index.next_due(), self.next_read, deadline].into_iter().flatten().min()
    }

    /// Changes first: whoever asks in the same round sees them.
    pub(super) fn perform(&mut self, round: Vec<Command>) {
        let mut writes = Vec::new();
        let mut others = Vec::new();
        for command in round {
            match command {
                Command::Write(write) => writes.push(write),
                other => others.push(other),
            }
        }
        if !writes.is_empty() {
            self.commit(writes);
        }
        for command in others {
            self.answer(command);
        }
    }

    fn answer(&mut self, command: Command) {
        match command {
            Command::Write(write) => self.commit(vec![write]),
            Command::Take(take) if self.closing.is_none() => self.takers.push_back(take),
            // Dropping the reply tells the consumer that there is nothing more.
            Command::Take(_) => {}
            Command::GiveBack { queue, id } => self.index.give_back(queue, id),
            Command::Forget(consumer) => self.takers.retain(|take| take.consumer != consumer),
            Command::Depth { queue, reply } => drop(reply.send(Ok(self.index.depth(queue)))),
            Command::DeadLetters { queue, limit, reply } => {
                drop(reply.send(self.store.dead_letters(queue, limit).map_err(Cause::from)));
            }
            Command::Close { reply } => {
                self.takers.clear();
                self.closing.get_or_insert_with(Closing::begin).replies.push(reply);
            }
        }
    }

    /// Commits all changes or none: what fails here is the file, never one change, for sizes and kinds were checked
    /// before.
    fn commit(&mut self, writes: Vec<Write>) {
        let now = (self.now)();
        let outcome = self.store.write(|store| {
            writes.iter().map(|write| change::write(store, &write.change, now)).collect::<QueryResult<Vec<_>>>()
        });
        match outcome {
            Ok(effects) => {
                for (write, effects) in writes.into_iter().zip(effects) {
                    self.finish(write, effects);
                }
            }
            Err(error) => self.fail(writes, error),
        }
    }

    fn finish(&mut self, write: Write, (count, effects): (u64, Vec<Effect>)) {
        for effect in effects {
            effect.take_place(&mut self.index);
        }
        // Whoever no longer waits for the answer still had the change made.
        let _ = write.reply.send(Ok(count));
    }

    /// Nothing was written: what was to be settled goes back to its queue.
    fn fail(&mut self, writes: Vec<Write>, error: diesel::result::Error) {
        let error = Arc::new(error);
        for write in writes {
            if let Change::Settle { queue, settlements } = &write.change {
                for settlement in settlements {
                    self.index.give_back(*queue, change::row_id(settlement));
                }
            }
            let _ = write.reply.send(Err(Cause::from(Arc::clone(&error))));
        }
    }

    /// Gives every waiting consumer what there is for it.
    fn serve(&mut self) {
        if self.next_read.is_some_and(|at| at > Instant::now()) {
            return;
        }
        for take in std::mem::take(&mut self.takers) {
            if take.reply.is_closed() {
                continue;
            }
            if let Some(unserved) = self.hand_out(take) {
                self.takers.push_back(unserved);
            }
        }
    }

    /// Returns the consumer if there is nothing for it yet.
    fn hand_out(&mut self, take: Take) -> Option<Take> {
        let messages = loop {
            let room = take.prefetch.saturating_sub(self.index.unacknowledged_by(take.consumer));
            let entries = self.index.lease(take.queue, take.consumer, take.max.min(room), take.max_bytes);
            if entries.is_empty() {
                return Some(take);
            }
            match self.read(take.queue, &entries) {
                // None of these is for this version, and none of them is leased again.
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => break messages,
                Err(error) => {
                    self.postpone_reading(take.queue, &entries, &error);
                    return Some(take);
                }
            }
        };
        let deliveries = messages.into_iter().map(|(entry, message, failures)| {
            let lease = Lease::new(take.queue, entry.id.cast_unsigned(), Arc::clone(&take.settler));
            Delivery::new(message, failures, entry.redelivered, lease)
        });
        // A consumer that has gone meanwhile drops them, which gives them back.
        let _ = take.reply.send(deliveries.collect());
        None
    }

    /// Reads the leased messages; leaves out what is not to be handed out.
    fn read(&mut self, queue: Queue, entries: &[Entry]) -> QueryResult<Vec<(Entry, Message, u32)>> {
        let rows = self.store.read_all(entries.iter().map(|entry| entry.id))?;
        if self.next_read.take().is_some() {
            tracing::info!("messages can be read again");
        }
        let mut messages = Vec::with_capacity(entries.len());
        for (entry, row) in entries.iter().zip(rows) {
            match row {
                Some(Ok((message, failures))) => messages.push((*entry, message, failures)),
                // Stays in the file, for the newer version that published it.
                Some(Err(UnknownKind(kind))) => {
                    tracing::error!(%queue, message.row = entry.id, message.kind = kind, "unknown kind left in the file");
                    self.index.end_lease(queue, entry.id);
                }
                None => drop(self.index.end_lease(queue, entry.id)),
            }
        }
        Ok(messages)
    }

    fn postpone_reading(&mut self, queue: Queue, entries: &[Entry], error: &diesel::result::Error) {
        for entry in entries {
            self.index.give_back(queue, entry.id);
        }
        if self.next_read.replace(Instant::now() + READ_PAUSE).is_none() {
            tracing::error!(%queue, %error, "messages cannot be read, trying again every second");
        }
    }
}

impl Closing {
    fn begin() -> Self {
        Self { deadline: Instant::now() + CLOSE_WAIT_MAX, replies: Vec::new() }
    }

    fn is_over(&self, index: &Index) -> bool {
        index.nothing_in_hand() || Instant::now() >= self.deadline
    }
}

/// Waits for a command, then takes those that wait with it; empty when it is time to wake up. `None` when nobody is
/// left who could send one.
fn next_round(commands: &Receiver<Command>, wake_at: Option<Instant>) -> Option<Vec<Command>> {
    let first = match wake_at {
        None => commands.recv().ok()?,
        Some(at) => match commands.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(command) => command,
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return None,
        },
    };
    let mut round = vec![first];
    round.extend(commands.try_iter().take(ROUND_MAX - 1));
    Some(round)
}

fn index_stored(index: &mut Index, row: StoredRow, now_us: i64, now: Instant) {
    let Ok(queue) = row.queue.parse::<Queue>() else {
        tracing::error!(queue = row.queue, message.row = row.id, "message of an unknown queue left in the file");
        return;
    };
    let entry = Entry { id: row.id, bytes: u32::try_from(row.bytes).unwrap_or(u32::MAX), redelivered: true };
    match row.available_at_us.and_then(|at_us| u64::try_from(at_us.saturating_sub(now_us)).ok()) {
        // A clock that was set back must not make it wait longer than it was ever to wait.
        Some(wait_us) => {
            index.add_delayed(queue, entry, now + Duration::from_micros(wait_us).min(RETRY_DELAY_MAX));
        }
        None => index.add_ready(queue, entry),
    }
}
