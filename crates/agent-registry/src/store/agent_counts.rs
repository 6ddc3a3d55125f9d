//! How many agents of an organisation have which status. Triggers keep it, as those of [`super::log_counts`] do.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use service_kit::database::{DbConnection, MultiBackend};

use super::schema::agent_counts;

/// How many agents have this status (none: any).
pub(crate) fn count(conn: &mut DbConnection, organisation: &str, status: Option<&str>) -> QueryResult<i64> {
    let mut counts =
        agent_counts::table.filter(agent_counts::organisation.eq(organisation)).into_boxed::<MultiBackend>();
    if let Some(status) = status {
        counts = counts.filter(agent_counts::status.eq(status));
    }
    let total = diesel::dsl::sql::<BigInt>("CAST(COALESCE(SUM(count), 0) AS BIGINT)");
    counts.select(total).get_result(conn)
}

/// How many agents have each status, by one statement, so that they are of one moment.
pub(crate) fn by_status(conn: &mut DbConnection, organisation: &str) -> QueryResult<Vec<(String, i64)>> {
    let total = diesel::dsl::sql::<(Text, BigInt)>("status, CAST(SUM(count) AS BIGINT)");
    agent_counts::table
        .filter(agent_counts::organisation.eq(organisation))
        .group_by(agent_counts::status)
        .select(total)
        .load(conn)
}
