//! Whether everything is paused, and what its operator noted.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use crate::schema::everything;

/// There is one of it.
const ID: i32 = 1;

/// The advisory lock of whoever pauses or resumes everything: there may be no row yet.
const LOCK: i64 = 7_262_747;

/// The pause of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Everything {
    pub(crate) paused: bool,
    pub(crate) note: String,
    pub(crate) changed_at: Option<DateTime<Utc>>,
}

/// One at a time pauses or resumes, until the end of the transaction: what is read then is what it changes.
pub(crate) fn lock(conn: &mut DbConnection) -> QueryResult<()> {
    if let DbConnection::Postgres(c) = conn {
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(c)?;
    }
    Ok(())
}

/// Whether everything is paused.
pub(crate) fn is_paused(conn: &mut DbConnection) -> QueryResult<bool> {
    let paused: Option<bool> = everything::table.find(ID).select(everything::paused).first(conn).optional()?;
    Ok(paused.unwrap_or_default())
}

/// Keeps it as it is until the end of the transaction.
pub(crate) fn keep(conn: &mut PgConnection) -> QueryResult<()> {
    everything::table.find(ID).select(everything::id).for_share().load::<i32>(conn).map(drop)
}

/// As it was put last.
pub(crate) fn load(conn: &mut DbConnection) -> QueryResult<Everything> {
    type Row = (bool, String, Timestamp);
    let columns = (everything::paused, everything::note, everything::changed_at);
    let row: Option<Row> = everything::table.find(ID).select(columns).first(conn).optional()?;
    let read = |(paused, note, changed_at): Row| Everything { paused, note, changed_at: Some(*changed_at) };
    Ok(row.map(read).unwrap_or_default())
}

/// Pauses or resumes.
pub(crate) fn put(conn: &mut DbConnection, paused: bool, note: &str, now: DateTime<Utc>) -> QueryResult<()> {
    let values =
        (everything::paused.eq(paused), everything::note.eq(note), everything::changed_at.eq(Timestamp::from(now)));
    per_backend!(conn, c => diesel::insert_into(everything::table)
        .values((everything::id.eq(ID), values))
        .on_conflict(everything::id)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}
