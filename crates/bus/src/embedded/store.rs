//! The SQL of the embedded bus: rows in and out, and nothing about who has what in hand.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::dsl::max;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use uuid::Uuid;

use super::tables::{dead_letters, length, messages};
use crate::bus::DeadLetter;
use crate::message::Message;
use crate::topology::Queue;

/// The attributes of a message as both tables have them.
#[derive(Queryable)]
struct MessageRow {
    message_id: Vec<u8>,
    kind: String,
    source: String,
    time_us: i64,
    traceparent: Option<String>,
    body: Vec<u8>,
    failures: i64,
}

/// What opening must know of a stored message.
#[derive(Queryable)]
pub(super) struct StoredRow {
    pub(super) id: i64,
    pub(super) queue: String,
    pub(super) bytes: i64,
    pub(super) available_at_us: Option<i64>,
}

/// A kind of event that only a newer version knows.
#[derive(Debug)]
pub(super) struct UnknownKind(pub(super) String);

/// A message as it is handed out, with its failures. No row at all means that somebody deleted it behind our back.
pub(super) type Stored = Result<(Message, u32), UnknownKind>;

/// The two tables.
pub(super) struct Store {
    conn: SqliteConnection,
    next_id: i64,
}

impl Store {
    pub(super) fn new(mut conn: SqliteConnection) -> QueryResult<Self> {
        let last_id: Option<i64> = messages::table.select(max(messages::id)).first(&mut conn)?;
        Ok(Self { conn, next_id: last_id.unwrap_or(0) + 1 })
    }

    /// Does all of `work` in one transaction, or nothing of it.
    ///
    /// Not diesel's `transaction`: a full disk may end SQLite's transaction by itself, after which diesel's bookkeeping
    /// would refuse this connection for ever.
    pub(super) fn write<T>(&mut self, work: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T> {
        self.transaction("BEGIN IMMEDIATE", work)
    }

    fn transaction<T>(&mut self, begin: &str, work: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T> {
        self.conn.batch_execute(begin)?;
        let outcome = work(self).and_then(|value| self.conn.batch_execute("COMMIT").map(|()| value));
        if outcome.is_err() {
            // Fails where SQLite has rolled back already, which is as well.
            let _ = self.conn.batch_execute("ROLLBACK");
        }
        outcome
    }

    /// Calls `each` with every stored message, oldest first.
    pub(super) fn for_each(&mut self, mut each: impl FnMut(StoredRow)) -> QueryResult<()> {
        let rows = messages::table
            .select((messages::id, messages::queue, length(messages::body), messages::available_at_us))
            .order(messages::id)
            .load_iter::<StoredRow, _>(&mut self.conn)?;
        for row in rows {
            each(row?);
        }
        Ok(())
    }

    /// Appends a message to a queue and returns its row.
    pub(super) fn insert(&mut self, queue: Queue, message: &Message) -> QueryResult<i64> {
        let id = self.take_id();
        diesel::insert_into(messages::table)
            .values((
                messages::id.eq(id),
                messages::queue.eq(queue.as_str()),
                messages::message_id.eq(message.id.as_bytes().as_slice()),
                messages::kind.eq(message.kind.as_str()),
                messages::source.eq(&message.source),
                messages::time_us.eq(message.time.timestamp_micros()),
                messages::traceparent.eq(&message.traceparent),
                messages::failures.eq(0),
                messages::body.eq(message.body.as_ref()),
            ))
            .execute(&mut self.conn)?;
        Ok(id)
    }

    /// Reads messages, in one transaction so that the file is locked once; see [`Stored`].
    pub(super) fn read_all(&mut self, ids: impl Iterator<Item = i64>) -> QueryResult<Vec<Option<Stored>>> {
        self.transaction("BEGIN", |store| ids.map(|id| store.read(id)).collect())
    }

    fn read(&mut self, id: i64) -> QueryResult<Option<Stored>> {
        let row = messages::table
            .find(id)
            .select((
                messages::message_id,
                messages::kind,
                messages::source,
                messages::time_us,
                messages::traceparent,
                messages::body,
                messages::failures,
            ))
            .first::<MessageRow>(&mut self.conn)
            .optional()?;
        Ok(row.map(MessageRow::into_message))
    }

    /// Removes a message for good.
    pub(super) fn delete(&mut self, id: i64) -> QueryResult<()> {
        diesel::delete(messages::table.find(id)).execute(&mut self.conn).map(drop)
    }

    /// Sets how often the message has failed and when it is next due.
    pub(super) fn postpone(&mut self, id: i64, failures: u32, available_at: DateTime<Utc>) -> QueryResult<()> {
        diesel::update(messages::table.find(id))
            .set((
                messages::failures.eq(i64::from(failures)),
                messages::available_at_us.eq(available_at.timestamp_micros()),
            ))
            .execute(&mut self.conn)
            .map(drop)
    }

    /// Moves a message to the dead letters.
    pub(super) fn give_up(&mut self, id: i64, failures: u32, reason: &str, now: DateTime<Utc>) -> QueryResult<()> {
        messages::table
            .find(id)
            .select((
                messages::queue,
                messages::message_id,
                messages::kind,
                messages::source,
                messages::time_us,
                messages::traceparent,
                i64::from(failures).into_sql::<BigInt>(),
                reason.into_sql::<Text>(),
                now.timestamp_micros().into_sql::<BigInt>(),
                messages::body,
            ))
            .insert_into(dead_letters::table)
            .into_columns((
                dead_letters::queue,
                dead_letters::message_id,
                dead_letters::kind,
                dead_letters::source,
                dead_letters::time_us,
                dead_letters::traceparent,
                dead_letters::failures,
                dead_letters::reason,
                dead_letters::dead_at_us,
                dead_letters::body,
            ))
            .execute(&mut self.conn)?;
        self.delete(id)
    }

    /// The oldest dead letters of a queue.
    pub(super) fn dead_letters(&mut self, queue: Queue, limit: usize) -> QueryResult<Vec<DeadLetter>> {
        let rows = dead_letters::table
            .filter(dead_letters::queue.eq(queue.as_str()))
            .order(dead_letters::id)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((
                (
                    dead_letters::message_id,
                    dead_letters::kind,
                    dead_letters::source,
                    dead_letters::time_us,
                    dead_letters::traceparent,
                    dead_letters::body,
                    dead_letters::failures,
                ),
                dead_letters::reason,
                dead_letters::dead_at_us,
            ))
            .load::<(MessageRow, String, i64)>(&mut self.conn)?;
        // A kind that only a newer version knows is left for that version to show.
        Ok(rows.into_iter().filter_map(|(row, reason, dead_at_us)| row.into_dead_letter(reason, dead_at_us)).collect())
    }

    /// Appends every dead letter of a queue to that queue again; returns the new rows with the sizes of their bodies.
    pub(super) fn requeue_dead_letters(&mut self, queue: Queue) -> QueryResult<Vec<(i64, i64)>> {
        let dead: Vec<(i64, i64)> = dead_letters::table
            .filter(dead_letters::queue.eq(queue.as_str()))
            .order(dead_letters::id)
            .select((dead_letters::id, length(dead_letters::body)))
            .load(&mut self.conn)?;
        let mut requeued = Vec::with_capacity(dead.len());
        for (dead_id, bytes) in dead {
            requeued.push((self.requeue_dead_letter(dead_id)?, bytes));
        }
        Ok(requeued)
    }

    /// Deletes every dead letter of a queue; returns how many there were.
    pub(super) fn discard_dead_letters(&mut self, queue: Queue) -> QueryResult<usize> {
        diesel::delete(dead_letters::table.filter(dead_letters::queue.eq(queue.as_str()))).execute(&mut self.conn)
    }

    fn requeue_dead_letter(&mut self, dead_id: i64) -> QueryResult<i64> {
        let id = self.take_id();
        dead_letters::table
            .find(dead_id)
            .select((
                id.into_sql::<BigInt>(),
                dead_letters::queue,
                dead_letters::message_id,
                dead_letters::kind,
                dead_letters::source,
                dead_letters::time_us,
                dead_letters::traceparent,
                0_i64.into_sql::<BigInt>(),
                dead_letters::body,
            ))
            .insert_into(messages::table)
            .into_columns((
                messages::id,
                messages::queue,
                messages::message_id,
                messages::kind,
                messages::source,
                messages::time_us,
                messages::traceparent,
                messages::failures,
                messages::body,
            ))
            .execute(&mut self.conn)?;
        diesel::delete(dead_letters::table.find(dead_id)).execute(&mut self.conn)?;
        Ok(id)
    }

    /// Ids are never taken back, not even by a transaction that failed: a gap is harmless.
    fn take_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

impl MessageRow {
    fn into_message(self) -> Stored {
        let Ok(kind) = self.kind.parse() else { return Err(UnknownKind(self.kind)) };
        let message = Message {
            // Only a hand at the file could have made an id of another length.
            id: Uuid::from_slice(&self.message_id).unwrap_or_default(),
            kind,
            source: self.source,
            time: DateTime::from_timestamp_micros(self.time_us).unwrap_or_default(),
            traceparent: self.traceparent,
            body: Bytes::from(self.body),
        };
        Ok((message, u32::try_from(self.failures).unwrap_or(u32::MAX)))
    }

    fn into_dead_letter(self, reason: String, dead_at_us: i64) -> Option<DeadLetter> {
        let (message, failures) = self.into_message().ok()?;
        Some(DeadLetter {
            message,
            failures,
            reason,
            time: DateTime::from_timestamp_micros(dead_at_us).unwrap_or_default(),
        })
    }
}
