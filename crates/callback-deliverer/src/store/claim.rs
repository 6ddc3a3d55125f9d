//! Claiming deliveries that are due.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};

use super::endpoints::{self, Endpoint, Fate, Hold};
use super::{Leased, Lessee};
use crate::schema::{deliveries, delivery_bodies};
use crate::words::{DiscardReason, Status};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = deliveries)]
struct Due {
    id: i64,
    webhook_id: Uid,
    organisation: String,
    agent_id: i64,
    log_id: Option<i64>,
    delivery_attempts_made: i32,
    created_at: Timestamp,
}

/// When the next delivery is due, if any is.
pub(crate) fn next_due(connection: &mut DbConnection) -> QueryResult<Option<Timestamp>> {
    let due_at: Option<Option<Timestamp>> = deliveries::table
        .filter(deliveries::due_at.is_not_null())
        .order(deliveries::due_at)
        .select(deliveries::due_at)
        .first(connection)
        .optional()?;
    Ok(due_at.flatten())
}

/// Gives back every lease: whoever had one is gone. For a database that belongs to one process, when it opens.
pub(crate) fn release_leases(connection: &mut DbConnection, now: Timestamp) -> QueryResult<usize> {
    diesel::update(deliveries::table)
        .filter(deliveries::due_at.is_not_null())
        .filter(deliveries::lease_owner.is_not_null())
        .set((deliveries::due_at.eq(Some(now)), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)
}

/// Leases at most `limit` due deliveries, longest due first, each with its endpoint as it is held now. None: nothing is
/// due, or others are claiming it.
pub(crate) fn claim(connection: &mut DbConnection, lessee: &Lessee, limit: i64) -> QueryResult<Option<Vec<Leased>>> {
    endpoints::lock(connection, Hold::Shared)?;
    let due = lock_due(connection, lessee.now, limit)?;
    if due.is_empty() {
        return Ok(None);
    }
    let agents: Vec<i64> = due.iter().map(|row| row.agent_id).collect();
    let held = endpoints::of_agents(connection, &agents)?;
    let mut leased = Vec::with_capacity(due.len());
    for row in due {
        // It waited as long as any delivery waits for a URL, so one that is missing now is gone.
        match Endpoint::fate(held.get(&row.agent_id), chrono::DateTime::UNIX_EPOCH) {
            Fate::Send(target) => leased.push(Leased {
                id: row.id,
                webhook_id: *row.webhook_id,
                agent_id: row.agent_id,
                log_id: row.log_id,
                organisation: row.organisation,
                created_at: *row.created_at,
                number: row.delivery_attempts_made + 1,
                body: String::new(),
                target,
            }),
            Fate::AwaitDocument | Fate::AwaitUrl => await_document(connection, row.id)?,
            Fate::Discard(reason) => discard(connection, row.id, reason, lessee.now)?,
        }
    }
    lease(connection, &mut leased, lessee)?;
    Ok(Some(leased))
}

/// Reads what is due; on PostgreSQL without waiting for, or taking, what another replica is claiming.
fn lock_due(connection: &mut DbConnection, now: Timestamp, limit: i64) -> QueryResult<Vec<Due>> {
    let due = deliveries::table
        .filter(deliveries::due_at.le(Some(now)))
        .order((deliveries::due_at, deliveries::id))
        .limit(limit);
    match connection {
        DbConnection::Postgres(connection) => due.select(Due::as_select()).for_update().skip_locked().load(connection),
        DbConnection::Sqlite(connection) => due.select(Due::as_select()).load(connection),
    }
}

fn lease(connection: &mut DbConnection, leased: &mut [Leased], lessee: &Lessee) -> QueryResult<()> {
    let ids: Vec<i64> = leased.iter().map(|delivery| delivery.id).collect();
    diesel::update(deliveries::table.filter(deliveries::id.eq_any(&ids)))
        .set((deliveries::due_at.eq(Some(lessee.until)), deliveries::lease_owner.eq(Some(lessee.owner))))
        .execute(connection)?;
    let bodies: Vec<(i64, String)> =
        delivery_bodies::table.filter(delivery_bodies::delivery_id.eq_any(&ids)).load(connection)?;
    let mut bodies: std::collections::HashMap<i64, String> = bodies.into_iter().collect();
    for delivery in leased {
        delivery.body = bodies.remove(&delivery.id).ok_or(diesel::result::Error::NotFound)?;
    }
    Ok(())
}

fn await_document(connection: &mut DbConnection, id: i64) -> QueryResult<()> {
    diesel::update(deliveries::table.find(id))
        .set((deliveries::due_at.eq(None::<Timestamp>), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)?;
    Ok(())
}

fn discard(connection: &mut DbConnection, id: i64, reason: DiscardReason, now: Timestamp) -> QueryResult<()> {
    diesel::update(deliveries::table.find(id))
        .set((
            deliveries::status.eq(Status::Discarded),
            deliveries::reason.eq(Some(reason)),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::lease_owner.eq(None::<Uid>),
            deliveries::settled_at.eq(Some(now)),
        ))
        .execute(connection)?;
    Ok(())
}
