//! The run log in lists: filtered, searched, ordered, counted.
//!
//! Only logs of agents that exist are seen: those of a deleted agent wait to be swept.

use std::collections::HashMap;

use diesel::dsl::{self, IntoBoxed};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use service_kit::database::{DbConnection, MultiBackend, SqlTimestamp, in_time};

use super::logs::LogRow;
use super::schema::{agents, log_contents, logs};
use super::{Window, containing, is_sqlite, log_counts, lower, orderable, then_order_by};

/// What a list is narrowed to; absent filters nothing. An inner none matches nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogFilter {
    pub(crate) organisation: String,
    pub(crate) mentor_id: Option<Option<i64>>,
    pub(crate) parent_mentor_id: Option<Option<i64>>,
    pub(crate) parent_session_id: Option<String>,
    pub(crate) agent_id: Option<i64>,
    /// As logs show it: what is not started yet is running.
    pub(crate) status: Option<&'static str>,
    pub(crate) username: Option<String>,
    /// Each must be found in the content or the agent's title.
    pub(crate) search: Vec<String>,
}

/// So many logs are put in order at once.
const FEW: i64 = 5_000;

/// As it is shown: of a run that has not started, when it was requested.
const START_TIME: &str = "COALESCE(logs.started_at, logs.requested_at)";
/// As it is shown: when the run ended, else started, else was requested.
const MODIFIED_AT: &str = "COALESCE(logs.ended_at, logs.started_at, logs.requested_at)";

/// As it is shown: none where the run was made early. Of times PostgreSQL makes an interval, SQLite a number.
const LATENESS: &str = "CASE WHEN logs.requested_at > logs.fire_time THEN logs.requested_at - logs.fire_time \
                        ELSE logs.fire_time - logs.fire_time END";

type Logs = IntoBoxed<'static, dsl::InnerJoin<logs::table, agents::table>, MultiBackend>;

/// How many logs match.
pub(crate) fn count(conn: &mut DbConnection, filter: LogFilter) -> QueryResult<i64> {
    if filter.is_counted() {
        let states = filter.status.map(states_of);
        return log_counts::count(conn, &filter.organisation, filter.username.as_deref(), states);
    }
    // Of these agents the logs are counted from their index alone, which has no organisation.
    let organisation = agents::organisation.eq(filter.organisation.clone());
    let all = logs::table.inner_join(agents::table).filter(organisation).into_boxed::<MultiBackend>();
    narrowed(conn, all, filter).count().get_result(conn)
}

/// A page of the logs that match, of which there are `matching`, in the order of these fields of [`ORDERABLE`].
pub(crate) fn page(
    conn: &mut DbConnection,
    filter: LogFilter,
    matching: i64,
    ordering: &[(String, bool)],
    window: Window,
) -> QueryResult<Vec<LogRow>> {
    if matching <= FEW && filter.is_of_agents() {
        // Asked for so many of them, a database may walk along all logs of the organisation until it has met enough
        // that match. Asked for all, it goes by the agents.
        let own = agents::organisation.eq(filter.organisation.clone());
        let all = logs::table.inner_join(agents::table).filter(own).into_boxed::<MultiBackend>();
        let ids: Vec<i64> = ordered(narrowed(conn, all, filter), ordering).select(logs::id).load(conn)?;
        return rows_of(conn, window.of(&ids));
    }
    let organisation = logs::organisation.eq(filter.organisation.clone());
    let all = logs::table.inner_join(agents::table).filter(organisation).into_boxed::<MultiBackend>();
    ordered(narrowed(conn, all, filter), ordering)
        .select(LogRow::as_select())
        .limit(window.limit)
        .offset(window.offset)
        .load(conn)
}

/// These logs, in this order.
fn rows_of(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<LogRow>> {
    let rows: Vec<LogRow> = logs::table.filter(logs::id.eq_any(ids.to_vec())).select(LogRow::as_select()).load(conn)?;
    let mut rows: HashMap<i64, LogRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(ids.iter().filter_map(|id| rows.remove(id)).collect())
}

impl LogFilter {
    /// Whether it asks for the logs of some agents, whatever is in them.
    fn is_of_agents(&self) -> bool {
        let whose = Self {
            organisation: self.organisation.clone(),
            status: self.status,
            search: self.search.clone(),
            ..Self::default()
        };
        self.search.is_empty() && *self != whose
    }

    /// Whether [`log_counts`] knows how many match.
    fn is_counted(&self) -> bool {
        let counted = Self {
            organisation: self.organisation.clone(),
            username: self.username.clone(),
            status: self.status,
            ..Self::default()
        };
        *self == counted
    }
}

/// The states that logs show as this status.
fn states_of(status: &'static str) -> &'static [&'static str] {
    match status {
        "running" => &["running", "pending"],
        "success" => &["success"],
        _ => &["error"],
    }
}

fn narrowed(conn: &DbConnection, mut query: Logs, filter: LogFilter) -> Logs {
    if let Some(mentor_id) = filter.mentor_id {
        query = query.filter(agents::mentor_id.eq_any(mentor_id));
    }
    if let Some(parent) = filter.parent_mentor_id {
        query = query.filter(agents::parent_mentor_id.eq_any(parent));
    }
    if let Some(session) = filter.parent_session_id {
        query = query.filter(agents::parent_session_id.eq(session));
    }
    if let Some(agent_id) = filter.agent_id {
        query = query.filter(logs::agent_id.eq(agent_id));
    }
    if let Some(status) = filter.status {
        query = query.filter(logs::state.eq_any(states_of(status)));
        if status != "success" {
            // As the index of those says it.
            query = query.filter(diesel::dsl::sql::<Bool>("logs.state <> 'success'"));
        }
    }
    if let Some(username) = filter.username {
        query = query.filter(agents::username.eq(username));
    }
    if is_sqlite(conn) && !filter.search.is_empty() {
        query = query.filter(in_time(logs::id));
    }
    for term in filter.search {
        // Term and text are folded by the same hand: letters that it does not know are found as they are written.
        let pattern = || lower(containing(&term));
        let in_content = log_contents::table
            .filter(log_contents::log_id.eq(logs::id))
            .filter(lower(log_contents::content).like(pattern()).escape('\\'));
        let in_title = lower(agents::title).like(pattern()).escape('\\');
        query = query.filter(in_title.or(dsl::exists(in_content)));
    }
    query
}

// What is null comes last, in either direction and on either database.
orderable!(|query: Logs, down| {
    "id" => then_order_by!(query, logs::id, down),
    "status" => then_order_by!(query, logs::state, down),
    "state" => then_order_by!(query, logs::state, down),
    "created_at" => then_order_by!(query, logs::requested_at, down),
    "modified_at" => then_order_by!(query, dsl::sql::<SqlTimestamp>(MODIFIED_AT), down),
    "start_time" => then_order_by!(query, dsl::sql::<SqlTimestamp>(START_TIME), down),
    "end_time" => then_order_by!(query.then_order_by(logs::ended_at.is_null()), logs::ended_at, down),
    "fire_time" => then_order_by!(query, logs::fire_time, down),
    "nominal_time" => then_order_by!(query, logs::nominal_time, down),
    "lateness_ms" => then_order_by!(query, dsl::sql::<BigInt>(LATENESS), down),
    "sequence" => then_order_by!(query, logs::sequence, down),
    "run_attempt" => then_order_by!(query, logs::run_attempt, down),
    "trigger" => then_order_by!(query, logs::made_by, down),
    "session_id" => then_order_by!(query, logs::session_id, down),
    "reason" => then_order_by!(query.then_order_by(logs::reason.is_null()), logs::reason, down),
    "periodic_agent" => then_order_by!(query, logs::agent_id, down),
});

fn ordered(mut query: Logs, ordering: &[(String, bool)]) -> Logs {
    for (name, down) in ordering {
        query = then_ordered_by(query, name, *down);
    }
    if ordering.is_empty() {
        query = query.then_order_by(logs::requested_at.desc());
    }
    query.then_order_by(logs::id.desc())
}
