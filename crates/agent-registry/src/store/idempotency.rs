//! Requests that clients may repeat, and how they were answered.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schema::idempotency_keys;

/// What a request is found by: its organisation, user, operation and key.
type Key = (String, String, String, String);

/// A request that may be repeated.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = idempotency_keys, treat_none_as_default_value = false)]
pub(crate) struct RequestRow {
    pub(crate) organisation: String,
    pub(crate) username: String,
    pub(crate) operation: String,
    pub(crate) key: String,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) sealed_answer: Option<Vec<u8>>,
}

/// Stores a request unless one with its key is there. Waits for whoever is storing the same.
pub(crate) fn insert(conn: &mut DbConnection, row: &RequestRow) -> QueryResult<bool> {
    let inserted = per_backend!(conn, c => diesel::insert_into(idempotency_keys::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// The stored request with the same key, kept from other writers until the transaction ends.
pub(crate) fn find_for_update(conn: &mut DbConnection, row: &RequestRow) -> QueryResult<Option<RequestRow>> {
    let key = (&row.organisation, &row.username, &row.operation, &row.key);
    match conn {
        DbConnection::Postgres(c) => {
            idempotency_keys::table.find(key).select(RequestRow::as_select()).for_no_key_update().first(c).optional()
        }
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => {
            idempotency_keys::table.find(key).select(RequestRow::as_select()).first(c).optional()
        }
    }
}

/// Begins a request anew, whose key was used longer ago than it holds.
pub(crate) fn replace(conn: &mut DbConnection, row: &RequestRow) -> QueryResult<()> {
    let key = (&row.organisation, &row.username, &row.operation, &row.key);
    diesel::update(idempotency_keys::table.find(key))
        .set((
            idempotency_keys::fingerprint.eq(&row.fingerprint),
            idempotency_keys::created_at.eq(row.created_at),
            idempotency_keys::sealed_answer.eq(&row.sealed_answer),
        ))
        .execute(conn)
        .map(|_| ())
}

/// Stores how a request was answered.
pub(crate) fn answer(conn: &mut DbConnection, row: &RequestRow, sealed: &[u8]) -> QueryResult<()> {
    let key = (&row.organisation, &row.username, &row.operation, &row.key);
    diesel::update(idempotency_keys::table.find(key))
        .set(idempotency_keys::sealed_answer.eq(Some(sealed)))
        .execute(conn)
        .map(|_| ())
}

/// Forgets up to `limit` requests from before `until`. Returns how many.
pub(crate) fn sweep(conn: &mut DbConnection, until: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old = idempotency_keys::table
        .filter(idempotency_keys::created_at.le(Timestamp::from(until)))
        .order(idempotency_keys::created_at)
        .select(idempotency_keys::table.primary_key())
        .limit(limit)
        .load(conn)?;
    delete(conn, &old)
}

/// Forgets up to `limit` requests of the organisation. Returns how many.
pub(crate) fn delete_of(conn: &mut DbConnection, organisation: &str, limit: i64) -> QueryResult<usize> {
    let own = idempotency_keys::table
        .filter(idempotency_keys::organisation.eq(organisation))
        .select(idempotency_keys::table.primary_key())
        .limit(limit)
        .load(conn)?;
    delete(conn, &own)
}

fn delete(conn: &mut DbConnection, keys: &[Key]) -> QueryResult<usize> {
    for (organisation, username, operation, key) in keys {
        diesel::delete(idempotency_keys::table.find((organisation, username, operation, key))).execute(conn)?;
    }
    Ok(keys.len())
}
