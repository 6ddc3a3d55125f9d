//! How many logs there are, of agents that exist, by organisation, creator and state.
//!
//! Triggers keep it (the migration has them), in the transaction of whatever changes a log or removes an agent, so that
//! it is exact at every moment. On PostgreSQL they only add rows, and [`merge`] makes them few again.

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

/// Merges the rows of PostgreSQL that say the same of one organisation, user and state; on SQLite there is one each.
pub(crate) fn merge(conn: &mut DbConnection) -> QueryResult<()> {
    let DbConnection::Postgres(conn) = conn else { return Ok(()) };
    diesel::sql_query(
        "WITH many AS (
             SELECT organisation, username, state FROM log_counts GROUP BY 1, 2, 3 HAVING count(*) > 1
         ), taken AS (
             DELETE FROM log_counts USING many
             WHERE (log_counts.organisation, log_counts.username, log_counts.state)
                 = (many.organisation, many.username, many.state)
             RETURNING log_counts.*
         )
         INSERT INTO log_counts (organisation, username, state, count)
         SELECT organisation, username, state, sum(count) FROM taken GROUP BY 1, 2, 3 HAVING sum(count) <> 0",
    )
    .execute(conn)
    .map(|_| ())
}
