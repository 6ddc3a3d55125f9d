//! How many logs there are, of agents that exist, by organisation, creator and state.
//!
//! Triggers keep it (the migration has them), in the transaction of whatever changes a log or removes an agent, so that
//! it is exact at every moment. On PostgreSQL they only add rows, and [`super::counts`] makes them few again.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use service_kit::database::{DbConnection, MultiBackend};

use super::schema::log_counts;

/// How many logs in one of these states (none: in any) the agents of a user (none: of anyone) have.
pub(crate) fn count(
    conn: &mut DbConnection,
    organisation: &str,
    username: Option<&str>,
    states: Option<&[&str]>,
) -> QueryResult<i64> {
    let mut counts = log_counts::table.filter(log_counts::organisation.eq(organisation)).into_boxed::<MultiBackend>();
    if let Some(username) = username {
        counts = counts.filter(log_counts::username.eq(username));
    }
    if let Some(states) = states {
        counts = counts.filter(log_counts::state.eq_any(states));
    }
    let total = diesel::dsl::sql::<BigInt>("CAST(COALESCE(SUM(count), 0) AS BIGINT)");
    counts.select(total).get_result(conn)
}
