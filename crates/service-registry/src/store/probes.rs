//! Endpoints that are probed, and when each is due.
//!
//! `due_at` is the next moment at which somebody has to look at a row. Whoever probes it moves that to the end of a
//! lease, so that a replica that dies leaves it due again; what came of a probe is written only where the row still
//! stands at that lease.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};
use service_kit::per_backend;
use url::Url;
use uuid::Uuid;

use super::numbers::{self, Counts};
use super::schema::service_probes;
use super::services::ServiceRow;

/// An endpoint in the hands of this process.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(crate) struct Probe {
    pub(crate) service_id: Uid,
    pub(crate) endpoint: String,
    pub(crate) origin: String,
    /// Probes that failed one after the other until now.
    pub(crate) failures: i64,
}

/// Probes the endpoint of a service from now on, or no more if it has none. One that did not change goes on as it was.
pub(crate) fn watch(conn: &mut DbConnection, service: &ServiceRow) -> QueryResult<()> {
    let row = service_probes::table.find(service.id);
    let known: Option<String> = row.select(service_probes::endpoint).first(conn).optional()?;
    if known == service.endpoint {
        return Ok(());
    }
    diesel::delete(row).execute(conn)?;
    let Some(endpoint) = &service.endpoint else { return Ok(()) };
    let origin = Url::parse(endpoint).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let row = (
        service_probes::service_id.eq(service.id),
        service_probes::endpoint.eq(endpoint),
        service_probes::origin.eq(origin),
        service_probes::due_at.eq(service.updated_at),
        service_probes::failures.eq(0),
    );
    per_backend!(conn, c => diesel::insert_into(service_probes::table).values(row).execute(c)).map(|_| ())
}

/// At most `limit` endpoints that are due, longest due first, but for those at the origins `aside`; others do not find
/// them until the transaction ends.
pub(crate) fn lock_due(
    conn: &mut DbConnection,
    now: Timestamp,
    aside: &[String],
    limit: i64,
) -> QueryResult<Vec<Probe>> {
    let due = service_probes::table
        .filter(service_probes::due_at.le(now).and(service_probes::origin.ne_all(aside)))
        .order(service_probes::due_at)
        .limit(limit)
        .select((
            service_probes::service_id,
            service_probes::endpoint,
            service_probes::origin,
            service_probes::failures,
        ));
    match conn {
        DbConnection::Postgres(c) => due.for_update().skip_locked().load(c),
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => due.load(c),
    }
}

/// Takes endpoints that are locked, until `lease`.
pub(crate) fn lease(conn: &mut DbConnection, probes: &[Probe], lease: Timestamp) -> QueryResult<()> {
    let ids: Vec<Uid> = probes.iter().map(|probe| probe.service_id).collect();
    diesel::update(service_probes::table.filter(service_probes::service_id.eq_any(ids)))
        .set(service_probes::due_at.eq(lease))
        .execute(conn)
        .map(|_| ())
}

/// Writes what came of a probe, and counts it; unless the lease is over, or the endpoint another.
pub(crate) fn record(
    conn: &mut DbConnection,
    probe: &Probe,
    lease: Timestamp,
    (failures, due): (i64, Timestamp),
    (counts, now): (Counts, DateTime<Utc>),
) -> QueryResult<()> {
    let service = Uuid::from(probe.service_id);
    if numbers::registered(conn, &[service])?.is_empty() {
        return Ok(());
    }
    let row = service_probes::table
        .find(probe.service_id)
        .filter(service_probes::due_at.eq(lease))
        .filter(service_probes::endpoint.eq(&probe.endpoint));
    let written = diesel::update(row)
        .set((service_probes::failures.eq(failures), service_probes::due_at.eq(due)))
        .execute(conn)?;
    if written == 1 {
        numbers::add(conn, [(service, now, counts)])?;
    }
    Ok(())
}

/// When the next endpoint is due, if there is any, but for those at the origins `aside`.
pub(crate) fn next_due(conn: &mut DbConnection, aside: &[String]) -> QueryResult<Option<Timestamp>> {
    service_probes::table
        .filter(service_probes::origin.ne_all(aside))
        .order(service_probes::due_at)
        .select(service_probes::due_at)
        .first(conn)
        .optional()
}
