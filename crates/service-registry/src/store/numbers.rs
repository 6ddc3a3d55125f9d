//! What is counted of services: by the hour for what is shown of the last day, and for ever for conversions.
//!
//! Counters rather than the invocations themselves: a service that is offered to a thousand runs an hour is read from
//! 24 rows all the same. The price is that "the last day" begins at the full hour: it is 23 to 24 hours long.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::ROWS_MAX;
use super::schema::{service_conversions, service_hours, service_invocations, services};

/// How many hours, the present one among them, are shown.
const HOURS_SHOWN: i64 = 24;

/// What was counted of one service in one hour, or is to be added to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) offered: i64,
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) probes_succeeded: i64,
    pub(crate) probes_failed: i64,
}

impl Counts {
    /// Adds `other` to these.
    pub(crate) fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.probes_succeeded += other.probes_succeeded;
        self.probes_failed += other.probes_failed;
    }
}

/// What is shown of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Successful calls since it was registered.
    pub(crate) conversions: i64,
    /// Of the last day.
    pub(crate) day: Counts,
}

impl Numbers {
    /// Successful calls over the run attempts that it was offered to; 0 where it was offered to none. A run that calls
    /// it twice does not make it more than 1.
    pub(crate) fn conversion_rate(&self) -> f64 {
        share(self.day.succeeded, self.day.offered)
    }

    /// The share of probes and calls that succeeded; 0 where there was none.
    pub(crate) fn uptime(&self) -> f64 {
        let succeeded = self.day.succeeded + self.day.probes_succeeded;
        share(succeeded, succeeded + self.day.failed + self.day.probes_failed)
    }
}

/// From 0 to 1, to four places.
fn share(part: i64, whole: i64) -> f64 {
    if whole <= 0 {
        return 0.0;
    }
    let rate = (part as f64 / whole as f64).clamp(0.0, 1.0);
    (rate * 10_000.0).round() / 10_000.0
}

/// The beginning of the hour.
fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::hours(1)).unwrap_or(time)
}

/// The first hour that is shown.
pub(crate) fn shown_since(now: DateTime<Utc>) -> DateTime<Utc> {
    hour_of(now) - TimeDelta::hours(HOURS_SHOWN - 1)
}

/// What one run attempt did with one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InvocationKey {
    pub(crate) service: Uuid,
    pub(crate) run_id: i64,
    pub(crate) run_attempt: i64,
}

/// Remembers that these are counted, in this order. Returns those of them that were not counted before.
pub(crate) fn remember(
    conn: &mut DbConnection,
    keys: &[InvocationKey],
    now: Timestamp,
) -> QueryResult<Vec<InvocationKey>> {
    let row = |key: &InvocationKey| {
        (
            service_invocations::run_id.eq(key.run_id),
            service_invocations::run_attempt.eq(key.run_attempt),
            service_invocations::service_id.eq(Uid::from(key.service)),
            service_invocations::counted_at.eq(now),
        )
    };
    let mut new = Vec::new();
    for piece in keys.chunks(ROWS_MAX) {
        let rows: Vec<_> = piece.iter().map(row).collect();
        let inserted: Vec<(i64, i64, Uid)> = per_backend!(conn, c => diesel::insert_into(service_invocations::table)
                .values(rows)
                .on_conflict_do_nothing()
                .returning((
                    service_invocations::run_id,
                    service_invocations::run_attempt,
                    service_invocations::service_id,
                ))
                .load(c))?;
        let key = |(run_id, run_attempt, service): (i64, i64, Uid)| InvocationKey {
            service: service.into(),
            run_id,
            run_attempt,
        };
        new.extend(inserted.into_iter().map(key));
    }
    Ok(new)
}

/// Those of `ids` that are registered, which nobody deletes until the transaction ends: what is counted of a service is
/// deleted after it, and whoever counts must have it in the same order.
pub(crate) fn registered(conn: &mut DbConnection, ids: &[Uuid]) -> QueryResult<BTreeSet<Uuid>> {
    let ids: Vec<Uid> = ids.iter().copied().map(Uid::from).collect();
    let known = services::table.filter(services::id.eq_any(ids)).order(services::id).select(services::id);
    let found: Vec<Uid> = match conn {
        DbConnection::Postgres(c) => known.for_key_share().load(c)?,
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => known.load(c)?,
    };
    Ok(found.into_iter().map(Uuid::from).collect())
}

/// Adds to what is counted of each service what was counted of it at some moment: one statement for each service and
/// hour, in the order of their ids, so that no two replicas wait for each other. Whoever calls it keeps the services from
/// being deleted.
pub(crate) fn add(
    conn: &mut DbConnection,
    counted: impl IntoIterator<Item = (Uuid, DateTime<Utc>, Counts)>,
) -> QueryResult<()> {
    let mut hours: BTreeMap<(Uuid, DateTime<Utc>), Counts> = BTreeMap::new();
    let mut conversions: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (service, at, counts) in counted {
        hours.entry((service, hour_of(at))).or_default().add(counts);
        *conversions.entry(service).or_default() += counts.succeeded;
    }
    for ((service, hour), counts) in hours {
        add_to_hour(conn, service, hour, counts)?;
    }
    for (service, more) in conversions.into_iter().filter(|(_, more)| *more > 0) {
        let row = (service_conversions::service_id.eq(Uid::from(service)), service_conversions::conversions.eq(more));
        per_backend!(conn, c => diesel::insert_into(service_conversions::table)
            .values(row)
            .on_conflict(service_conversions::service_id)
            .do_update()
            .set(service_conversions::conversions
                .eq(service_conversions::conversions + excluded(service_conversions::conversions)))
            .execute(c))?;
    }
    Ok(())
}

fn add_to_hour(conn: &mut DbConnection, service: Uuid, hour: DateTime<Utc>, counts: Counts) -> QueryResult<()> {
    use service_hours::{failed, offered, probes_failed, probes_succeeded, succeeded};
    let row = (
        service_hours::service_id.eq(Uid::from(service)),
        service_hours::hour.eq(Timestamp::from(hour)),
        offered.eq(counts.offered),
        succeeded.eq(counts.succeeded),
        failed.eq(counts.failed),
        probes_succeeded.eq(counts.probes_succeeded),
        probes_failed.eq(counts.probes_failed),
    );
    per_backend!(conn, c => diesel::insert_into(service_hours::table)
        .values(row)
        .on_conflict((service_hours::service_id, service_hours::hour))
        .do_update()
        .set((
            offered.eq(offered + excluded(offered)),
            succeeded.eq(succeeded + excluded(succeeded)),
            failed.eq(failed + excluded(failed)),
            probes_succeeded.eq(probes_succeeded + excluded(probes_succeeded)),
            probes_failed.eq(probes_failed + excluded(probes_failed)),
        ))
        .execute(c))
    .map(|_| ())
}

/// What is shown of a service now.
pub(crate) fn of(conn: &mut DbConnection, service: Uid, now: DateTime<Utc>) -> QueryResult<Numbers> {
    let conversions: Option<i64> =
        service_conversions::table.find(service).select(service_conversions::conversions).first(conn).optional()?;
    let hours: Vec<(i64, i64, i64, i64, i64)> = service_hours::table
        .filter(service_hours::service_id.eq(service))
        .filter(service_hours::hour.ge(Timestamp::from(shown_since(now))))
        .select((
            service_hours::offered,
            service_hours::succeeded,
            service_hours::failed,
            service_hours::probes_succeeded,
            service_hours::probes_failed,
        ))
        .load(conn)?;
    let mut day = Counts::default();
    for (offered, succeeded, failed, probes_succeeded, probes_failed) in hours {
        day.add(Counts { offered, succeeded, failed, probes_succeeded, probes_failed });
    }
    Ok(Numbers { conversions: conversions.unwrap_or_default(), day })
}

/// Forgets at most `limit` hours before `shown`, and invocations counted before `counted`. Returns the most of one kind.
pub(crate) fn forget(conn: &mut DbConnection, shown: Timestamp, counted: Timestamp, limit: i64) -> QueryResult<usize> {
    const HOURS: &str = "
        DELETE FROM service_hours WHERE (service_id, hour) IN (
            SELECT service_id, hour FROM service_hours WHERE hour < $1 ORDER BY hour LIMIT $2)";
    const INVOCATIONS: &str = "
        DELETE FROM service_invocations WHERE (run_id, run_attempt, service_id) IN (
            SELECT run_id, run_attempt, service_id FROM service_invocations
             WHERE counted_at < $1 ORDER BY counted_at LIMIT $2)";
    let mut delete = |statement: &str, before: Timestamp| {
        per_backend!(conn, c => diesel::sql_query(statement)
            .bind::<SqlTimestamp, _>(before)
            .bind::<BigInt, _>(limit)
            .execute(c))
    };
    Ok(delete(HOURS, shown)?.max(delete(INVOCATIONS, counted)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shares_from_nothing_to_all() {
        let numbers = |day| Numbers { conversions: 0, day };
        assert_eq!(numbers(Counts::default()).conversion_rate(), 0.0);
        assert_eq!(numbers(Counts::default()).uptime(), 0.0);
        let day = Counts { offered: 3, succeeded: 1, failed: 1, probes_succeeded: 6, probes_failed: 2 };
        assert_eq!((numbers(day).conversion_rate(), numbers(day).uptime()), (0.3333, 0.7));
        let twice = Counts { offered: 1, succeeded: 2, ..Counts::default() };
        assert_eq!((numbers(twice).conversion_rate(), numbers(twice).uptime()), (1.0, 1.0));
    }

    #[test]
    fn a_day_is_the_present_hour_and_the_23_before_it() {
        let since = shown_since("2026-11-22T10:59:59Z".parse().unwrap());
        assert_eq!(since, "2026-11-21T11:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }
}
