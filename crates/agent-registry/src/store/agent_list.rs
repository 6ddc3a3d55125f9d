//! Periodic agents in lists: filtered, searched, ordered, counted.

use diesel::dsl::{self, IntoBoxed};
use diesel::prelude::*;
use diesel::sql_types::Text;
use service_kit::database::{DbConnection, MultiBackend, in_time};

use super::schema::{agent_activity, agents};
use super::{Window, agent_counts, containing, is_sqlite, orderable, then_order_by};

/// What a list is narrowed to; absent filters nothing. An inner none matches nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AgentFilter {
    pub(crate) organisation: String,
    pub(crate) mentor_id: Option<Option<i64>>,
    pub(crate) enabled: Option<bool>,
    pub(crate) parent_mentor_id: Option<Option<i64>>,
    pub(crate) parent_session_id: Option<String>,
    pub(crate) previous_agent: Option<i64>,
    pub(crate) previous_agent_status: Option<&'static str>,
    /// Of the newest log; `pending` without any.
    pub(crate) status: Option<&'static str>,
    pub(crate) title: Option<String>,
    pub(crate) username: Option<String>,
    /// Each must be found in title, description or prompt.
    pub(crate) search: Vec<String>,
}

/// The status of an agent without any log.
const PENDING: &str = "pending";

diesel::alias! {
    // Beside the table itself, where that is joined already.
    const ACTIVITIES: Alias<Activities> = agent_activity as activities;
}

/// Narrows a boxed query of agents to what a filter asks for within its organisation.
macro_rules! narrowed {
    ($conn:expr, $query:expr, $filter:expr) => {{
        let (mut query, filter): (_, AgentFilter) = ($query, $filter);
        if let Some(mentor_id) = filter.mentor_id {
            query = query.filter(agents::mentor_id.eq_any(mentor_id));
        }
        if let Some(enabled) = filter.enabled {
            query = query.filter(agents::enabled.eq(enabled));
        }
        if let Some(parent) = filter.parent_mentor_id {
            query = query.filter(agents::parent_mentor_id.eq_any(parent));
        }
        if let Some(session) = filter.parent_session_id {
            query = query.filter(agents::parent_session_id.eq(session));
        }
        if let Some(previous) = filter.previous_agent {
            query = query.filter(agents::previous_agent_id.eq(Some(previous)));
        }
        if let Some(status) = filter.previous_agent_status {
            query = query.filter(agents::previous_agent_status.eq(status));
        }
        let of_organisation = ACTIVITIES
            .filter(ACTIVITIES.field(agent_activity::organisation).eq(filter.organisation))
            .select(ACTIVITIES.field(agent_activity::agent_id));
        let latest = ACTIVITIES.field(agent_activity::latest_status);
        query = match filter.status {
            None => query,
            Some(PENDING) => query.filter(agents::id.eq_any(of_organisation.filter(latest.is_null()))),
            Some(status) => query.filter(agents::id.eq_any(of_organisation.filter(latest.eq(Some(status))))),
        };
        if let Some(title) = filter.title {
            query = query.filter(agents::title.eq(title));
        }
        if let Some(username) = filter.username {
            query = query.filter(agents::username.eq(username));
        }
        if is_sqlite($conn) && !filter.search.is_empty() {
            query = query.filter(in_time(agents::id));
        }
        for term in filter.search {
            query = query.filter(agents::search_text.like(containing(&term.to_lowercase())).escape('\\'));
        }
        query
    }};
}

type Agents = IntoBoxed<'static, agents::table, MultiBackend>;

/// How many agents match.
pub(crate) fn count(conn: &mut DbConnection, filter: AgentFilter) -> QueryResult<i64> {
    if filter.is_counted() {
        return agent_counts::count(conn, &filter.organisation, filter.status);
    }
    filtered(conn, filter).count().get_result(conn)
}

/// The ids of a page of the agents that match, in the order of these fields of [`ORDERABLE`].
pub(crate) fn page(
    conn: &mut DbConnection,
    filter: AgentFilter,
    ordering: &[(String, bool)],
    window: Window,
) -> QueryResult<Vec<i64>> {
    ordered(filtered(conn, filter), ordering).select(agents::id).limit(window.limit).offset(window.offset).load(conn)
}

/// How many of the agents that match have which status. One statement, so that they are of one moment.
pub(crate) fn statuses(conn: &mut DbConnection, filter: AgentFilter) -> QueryResult<Vec<(String, i64)>> {
    if filter.is_counted() && filter.status.is_none() {
        return agent_counts::by_status(conn, &filter.organisation);
    }
    let counted = agents::table
        .inner_join(agent_activity::table)
        .group_by(agent_activity::latest_status)
        .select((agent_activity::latest_status, dsl::count_star()))
        .filter(agents::organisation.eq(filter.organisation.clone()))
        .into_boxed::<MultiBackend>();
    let counts: Vec<(Option<String>, i64)> = narrowed!(conn, counted, filter).load(conn)?;
    let named = |(status, count): (Option<String>, i64)| (status.unwrap_or_else(|| PENDING.to_owned()), count);
    Ok(counts.into_iter().map(named).collect())
}

impl AgentFilter {
    /// Whether [`agent_counts`] knows how many match.
    fn is_counted(&self) -> bool {
        *self == Self { organisation: self.organisation.clone(), status: self.status, ..Self::default() }
    }
}

fn filtered(conn: &DbConnection, filter: AgentFilter) -> Agents {
    let all = agents::table.filter(agents::organisation.eq(filter.organisation.clone())).into_boxed::<MultiBackend>();
    narrowed!(conn, all, filter)
}

/// What the activity of an agent has in this column, to order by.
macro_rules! of_activity {
    ($column:ident) => {
        agent_activity::table
            .filter(agent_activity::agent_id.eq(agents::id))
            .select(agent_activity::$column)
            .single_value()
    };
}

/// As it is shown: `pending` without any log.
const LAST_STATUS: &str = "COALESCE((SELECT agent_activity.latest_status FROM agent_activity \
                           WHERE agent_activity.agent_id = agents.id), 'pending')";

// What is null comes last, in either direction and on either database.
orderable!(|query: Agents, down| {
    "id" => then_order_by!(query, agents::id, down),
    "title" => then_order_by!(query, agents::title, down),
    "username" => then_order_by!(query, agents::username, down),
    "description" => then_order_by!(query, agents::description, down),
    "prompt" => then_order_by!(query, agents::prompt, down),
    "created_at" => then_order_by!(query, agents::created_at, down),
    "modified_at" => then_order_by!(query, agents::modified_at, down),
    "enabled" => then_order_by!(query, agents::enabled, down),
    "one_off" => then_order_by!(query, agents::one_off, down),
    "pathway" => then_order_by!(query, agents::pathway, down),
    "callback_url" => then_order_by!(query, agents::callback_url, down),
    "callback_secret_set" => then_order_by!(query, agents::sealed_callback_secret.is_not_null(), down),
    "callback_state" => then_order_by!(query, of_activity!(callback_state), down),
    "failing_since" => {
        let query = query.then_order_by(of_activity!(failing_since).is_null());
        then_order_by!(query, of_activity!(failing_since), down)
    },
    "parent_session_id" => then_order_by!(query, agents::parent_session_id, down),
    "parent_mentor_id" => {
        then_order_by!(query.then_order_by(agents::parent_mentor_id.is_null()), agents::parent_mentor_id, down)
    },
    "previous_agent" => {
        then_order_by!(query.then_order_by(agents::previous_agent_id.is_null()), agents::previous_agent_id, down)
    },
    "previous_agent_status" => then_order_by!(query, agents::previous_agent_status, down),
    "next_fire_time" => {
        let query = query.then_order_by(of_activity!(next_fire_time).is_null());
        then_order_by!(query, of_activity!(next_fire_time), down)
    },
    "last_status" => then_order_by!(query, dsl::sql::<Text>(LAST_STATUS), down),
    "paused" => then_order_by!(query, agents::paused, down),
    "paused_note" => then_order_by!(query, agents::paused_note, down),
});

fn ordered(mut query: Agents, ordering: &[(String, bool)]) -> Agents {
    for (name, down) in ordering {
        query = then_ordered_by(query, name, *down);
    }
    if ordering.is_empty() {
        query = query.then_order_by(agents::created_at.desc());
    }
    query.then_order_by(agents::id.desc())
}
