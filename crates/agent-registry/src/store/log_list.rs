//! The run log in lists: filtered, searched, ordered, counted.
//!
//! Only logs of agents that exist are seen: those of a deleted agent wait to be swept.

use diesel::dsl::{self, IntoBoxed};
use diesel::prelude::*;
use service_kit::database::{DbConnection, MultiBackend};

use super::logs::LogRow;
use super::schema::{agents, log_bodies, logs};
use super::{Window, containing, lower, then_order_by};

/// What a list is narrowed to; absent filters nothing. An inner none matches nothing.
#[derive(Debug, Clone, Default)]
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

/// The fields that a list may be ordered by.
pub(crate) const ORDERABLE: [&str; 15] = [
    "id",
    "status",
    "state",
    "created_at",
    "fire_time",
    "nominal_time",
    "sequence",
    "run_attempt",
    "trigger",
    "session_id",
    "reason",
    "periodic_agent",
    "start_time",
    "end_time",
    "modified_at",
];

type Logs = IntoBoxed<'static, dsl::InnerJoin<logs::table, agents::table>, MultiBackend>;

/// How many logs match.
pub(crate) fn count(conn: &mut DbConnection, filter: LogFilter) -> QueryResult<i64> {
    filtered(filter).count().get_result(conn)
}

/// A page of the logs that match, in the order of these fields of [`ORDERABLE`].
pub(crate) fn page(
    conn: &mut DbConnection,
    filter: LogFilter,
    ordering: &[(String, bool)],
    window: Window,
) -> QueryResult<Vec<LogRow>> {
    ordered(filtered(filter), ordering).select(LogRow::as_select()).limit(window.limit).offset(window.offset).load(conn)
}

fn filtered(filter: LogFilter) -> Logs {
    let mut query = logs::table
        .inner_join(agents::table)
        .filter(logs::organisation.eq(filter.organisation))
        .into_boxed::<MultiBackend>();
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
    query = match filter.status {
        None => query,
        Some("running") => query.filter(logs::state.eq_any(["running", "pending"])),
        Some(status) => query.filter(logs::state.eq(status)),
    };
    if let Some(username) = filter.username {
        query = query.filter(agents::username.eq(username));
    }
    for term in filter.search {
        let pattern = containing(&term.to_lowercase());
        let in_content = log_bodies::table
            .filter(lower(log_bodies::content).like(pattern.clone()).escape('\\'))
            .select(log_bodies::log_id);
        let in_title = lower(agents::title).like(pattern).escape('\\');
        query = query.filter(in_title.or(logs::id.eq_any(in_content)));
    }
    query
}

fn ordered(mut query: Logs, ordering: &[(String, bool)]) -> Logs {
    for (name, down) in ordering {
        let down = *down;
        query = match name.as_str() {
            "id" => then_order_by!(query, logs::id, down),
            "status" | "state" => then_order_by!(query, logs::state, down),
            "created_at" => then_order_by!(query, logs::requested_at, down),
            "fire_time" => then_order_by!(query, logs::fire_time, down),
            "nominal_time" => then_order_by!(query, logs::nominal_time, down),
            "sequence" => then_order_by!(query, logs::sequence, down),
            "run_attempt" => then_order_by!(query, logs::run_attempt, down),
            "trigger" => then_order_by!(query, logs::made_by, down),
            "session_id" => then_order_by!(query, logs::session_id, down),
            "reason" => then_order_by!(query.then_order_by(logs::reason.is_null()), logs::reason, down),
            "periodic_agent" => then_order_by!(query, logs::agent_id, down),
            "start_time" => {
                then_order_by!(query.then_order_by(logs::started_at.is_null()), logs::started_at, down)
            }
            "end_time" | "modified_at" => {
                then_order_by!(query.then_order_by(logs::ended_at.is_null()), logs::ended_at, down)
            }
            _ => continue,
        };
    }
    if ordering.is_empty() {
        query = query.then_order_by(logs::requested_at.desc());
    }
    query.then_order_by(logs::id.desc())
}
