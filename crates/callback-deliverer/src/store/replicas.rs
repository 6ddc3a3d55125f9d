//! Replicas: who makes delivery attempts, and whether its heart beats. By the clock of the database alone.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Double;
use service_kit::database::{DbConnection, SqlUuid, Uid};

use crate::schema::{deliveries, replicas};

/// What a beat found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    /// Whether this replica was still known; else it goes on under the fresh id.
    pub(crate) known: bool,
    /// How many replicas there are.
    pub(crate) replicas: usize,
    /// How many deliveries were given back that a dead replica had leased.
    pub(crate) released: usize,
}

#[derive(QueryableByName)]
struct Gone {
    #[diesel(sql_type = SqlUuid)]
    id: Uid,
}

/// Writes a beat of `id`, or the first one of `fresh` if `id` is not known; then removes those whose last beat is older
/// than `dead_after`, which is asked only then: the writing may have taken its time. On SQLite there is nobody else, and
/// nothing is done.
pub(crate) fn beat(
    connection: &mut DbConnection,
    id: Uid,
    fresh: Uid,
    dead_after: impl FnOnce() -> Option<Duration>,
) -> QueryResult<Beat> {
    let DbConnection::Postgres(pg) = connection else { return Ok(Beat { known: true, replicas: 1, released: 0 }) };
    let known = diesel::sql_query("UPDATE replicas SET beat_at = clock_timestamp() WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .execute(pg)?
        > 0;
    if !known {
        diesel::sql_query("INSERT INTO replicas (id, beat_at) VALUES ($1, clock_timestamp())")
            .bind::<SqlUuid, _>(fresh)
            .execute(pg)?;
    }
    let gone: Vec<Gone> = match dead_after() {
        None => Vec::new(),
        // Who is just beating is not dead, whatever its row says yet.
        Some(dead_after) => diesel::sql_query(
            "DELETE FROM replicas WHERE id IN (SELECT id FROM replicas \
             WHERE beat_at < clock_timestamp() - make_interval(secs => $1) FOR UPDATE SKIP LOCKED) RETURNING id",
        )
        .bind::<Double, _>(dead_after.as_secs_f64())
        .load(pg)?,
    };
    let gone: Vec<Uid> = gone.into_iter().map(|row| row.id).collect();
    let released = release(connection, &gone)?;
    let count: i64 = replicas::table.count().get_result(connection)?;
    Ok(Beat { known, replicas: usize::try_from(count).unwrap_or(1), released })
}

/// Forgets a replica that ends well.
pub(crate) fn remove(connection: &mut DbConnection, id: Uid) -> QueryResult<usize> {
    diesel::delete(replicas::table.find(id)).execute(connection)
}

/// Gives back what these replicas had leased: it is due since it was made, and so before what has waited behind it.
fn release(connection: &mut DbConnection, gone: &[Uid]) -> QueryResult<usize> {
    if gone.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table)
        .filter(deliveries::lease_owner.eq_any(gone.iter().copied().map(Some)))
        .set((deliveries::due_at.eq(deliveries::created_at.nullable()), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)
}

/// Gives back every lease: whoever had one is gone. For a database that belongs to one process, when it opens.
pub(crate) fn release_all(connection: &mut DbConnection) -> QueryResult<usize> {
    diesel::update(deliveries::table)
        .filter(deliveries::lease_owner.is_not_null())
        .set((deliveries::due_at.eq(deliveries::created_at.nullable()), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)
}
