//! Forgetting: what is settled, and endpoints that are gone.

use chrono::TimeDelta;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use crate::schema::{deliveries, endpoints, organisations, replays};

/// Forgets deliveries that were settled longer ago than they are kept, longest first, at most `limit` for each
/// organisation with a time of its own and for all the others. Their bodies and delivery attempts go with them. Returns
/// the most that went at once.
pub(crate) fn forget_settled(
    connection: &mut DbConnection,
    now: Timestamp,
    kept: TimeDelta,
    limit: i64,
) -> QueryResult<usize> {
    let own: Vec<(String, Option<i32>)> = organisations::table
        .filter(organisations::deliveries_days.is_not_null())
        .select((organisations::organisation, organisations::deliveries_days))
        .load(connection)?;
    let others: Vec<&str> = own.iter().map(|(key, _)| key.as_str()).collect();
    let settled: Vec<i64> = deliveries::table
        .filter(deliveries::settled_at.le(Some(Timestamp::from(*now - kept))))
        .filter(deliveries::organisation.ne_all(others))
        .order(deliveries::settled_at)
        .limit(limit)
        .select(deliveries::id)
        .load(connection)?;
    let mut most = forget(connection, &settled)?;
    for (key, days) in &own {
        let kept = TimeDelta::days(days.unwrap_or(i32::MAX).into());
        let settled: Vec<i64> = deliveries::table
            .filter(deliveries::settled_at.le(Some(Timestamp::from(*now - kept))))
            .filter(deliveries::organisation.eq(key))
            .order(deliveries::settled_at)
            .limit(limit)
            .select(deliveries::id)
            .load(connection)?;
        most = most.max(forget(connection, &settled)?);
    }
    Ok(most)
}

fn forget(connection: &mut DbConnection, ids: &[i64]) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    diesel::delete(deliveries::table.filter(deliveries::id.eq_any(ids))).execute(connection)
}

/// Forgets replays that were finished by `before`.
pub(crate) fn forget_replays(connection: &mut DbConnection, before: Timestamp) -> QueryResult<usize> {
    diesel::delete(replays::table.filter(replays::finished_at.le(Some(before)))).execute(connection)
}

/// Forgets at most `limit` endpoints whose agents were deleted by `before`.
pub(crate) fn forget_tombstones(connection: &mut DbConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let gone: Vec<i64> = endpoints::table
        .filter(endpoints::deleted)
        .filter(endpoints::updated_at.le(before))
        .order(endpoints::updated_at)
        .limit(limit)
        .select(endpoints::agent_id)
        .load(connection)?;
    if gone.is_empty() {
        return Ok(0);
    }
    diesel::delete(endpoints::table.filter(endpoints::agent_id.eq_any(&gone))).execute(connection)
}
