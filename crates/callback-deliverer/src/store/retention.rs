//! Forgetting: what is settled, and endpoints that are gone.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use crate::schema::{deliveries, endpoints};

/// Forgets at most `limit` deliveries that were settled by `before`, longest first. Their bodies and delivery attempts
/// go with them.
pub(crate) fn forget_settled(connection: &mut DbConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let settled: Vec<i64> = deliveries::table
        .filter(deliveries::settled_at.le(Some(before)))
        .order(deliveries::settled_at)
        .limit(limit)
        .select(deliveries::id)
        .load(connection)?;
    if settled.is_empty() {
        return Ok(0);
    }
    diesel::delete(deliveries::table.filter(deliveries::id.eq_any(&settled))).execute(connection)
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
