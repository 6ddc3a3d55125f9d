//! Letting go what is held for endpoints that are enabled again, a little at a time.

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use service_kit::database::{DbConnection, Timestamp};

use crate::schema::{deliveries, endpoint_states};
use crate::words::Status;

/// Most endpoints looked at in one transaction.
const ENDPOINTS_MAX: i64 = 200;

/// Makes due the oldest held deliveries of each enabled endpoint, at most `of_each`; how many.
pub(crate) fn let_go(connection: &mut DbConnection, of_each: i64, now: Timestamp) -> QueryResult<usize> {
    let disabled = endpoint_states::table
        .filter(endpoint_states::agent_id.eq(deliveries::agent_id))
        .filter(endpoint_states::disabled_at.is_not_null());
    let agents: Vec<i64> = deliveries::table
        .filter(held())
        .filter(not(exists(disabled)))
        .select(deliveries::agent_id)
        .distinct()
        .limit(ENDPOINTS_MAX)
        .load(connection)?;
    let mut let_go = 0;
    for agent_id in agents {
        let oldest: Vec<i64> = deliveries::table
            .filter(held())
            .filter(deliveries::agent_id.eq(agent_id))
            .order(deliveries::id)
            .limit(of_each)
            .select(deliveries::id)
            .load(connection)?;
        let_go += make_due(connection, &oldest, &[Status::Held], now)?;
    }
    Ok(let_go)
}

/// Makes deliveries due whose status is one of these: a new round of the schedule begins. How many that was.
pub(crate) fn make_due(
    connection: &mut DbConnection,
    ids: &[i64],
    of: &[Status],
    now: Timestamp,
) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(ids))
        .filter(deliveries::status.eq_any(of))
        .filter(deliveries::lease_owner.is_null())
        .set((
            deliveries::status.eq(Status::Pending),
            deliveries::reason.eq(None::<crate::words::DiscardReason>),
            deliveries::round_began_at.eq(now),
            deliveries::round_failures.eq(0),
            deliveries::due_at.eq(Some(now)),
            deliveries::settled_at.eq(None::<Timestamp>),
        ))
        .execute(connection)
}

/// The condition of the index `deliveries_held`, word for word: SQLite takes the index for no other.
fn held() -> diesel::expression::SqlLiteral<Bool> {
    sql::<Bool>("status = 'held'")
}
