//! What changes at every run of an agent: its latest log, and when it fires next.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use service_kit::database::{DbConnection, Timestamp};

use super::agents::AgentRow;
use super::schema::agent_activity;
use super::{callback_states, insert_all, upsert_each};

/// The narrow row of an agent.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = agent_activity)]
pub(crate) struct ActivityRow {
    pub(crate) agent_id: i64,
    pub(crate) latest_status: Option<String>,
    pub(crate) next_fire_time: Option<Timestamp>,
    /// `ok`, `failing` or `disabled`.
    pub(crate) callback_state: String,
    pub(crate) failing_since: Option<Timestamp>,
}

impl ActivityRow {
    /// That of a new agent, which fires next then.
    pub(crate) fn of_new(agent_id: i64, next_fire_time: Option<DateTime<Utc>>) -> Self {
        Self {
            agent_id,
            latest_status: None,
            next_fire_time: next_fire_time.map(Timestamp::from),
            callback_state: callback_states::OK.to_owned(),
            failing_since: None,
        }
    }
}

/// That of a new agent.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = agent_activity, treat_none_as_default_value = false)]
pub(crate) struct NewActivity<'a> {
    agent_id: i64,
    organisation: &'a str,
    next_fire_time: Option<Timestamp>,
    next_fire_time_as_of: Timestamp,
    callback_state: &'a str,
}

impl<'a> NewActivity<'a> {
    /// That of this agent.
    pub(crate) fn of(agent: &'a AgentRow, activity: &'a ActivityRow) -> Self {
        Self {
            agent_id: agent.id,
            organisation: &agent.organisation,
            next_fire_time: activity.next_fire_time,
            next_fire_time_as_of: agent.created_at,
            callback_state: &activity.callback_state,
        }
    }
}

/// The newest log of an agent, and its status.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = agent_activity, treat_none_as_default_value = false)]
pub(crate) struct Latest {
    pub(crate) agent_id: i64,
    pub(crate) latest_run_id: i64,
    pub(crate) latest_status: &'static str,
    /// Only for the row that an upsert needs; the row is there already.
    pub(crate) next_fire_time_as_of: Timestamp,
}

/// When an agent fires next, and when the dispatcher said so.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = agent_activity, treat_none_as_default_value = false)]
pub(crate) struct NextFire {
    pub(crate) agent_id: i64,
    pub(crate) next_fire_time: Option<Timestamp>,
    pub(crate) next_fire_time_as_of: Timestamp,
}

/// Inserts the activities of new agents.
pub(crate) fn insert(conn: &mut DbConnection, rows: Vec<NewActivity<'_>>) -> QueryResult<()> {
    insert_all!(conn, agent_activity::table, rows)
}

/// The activities of these agents, by agent.
pub(crate) fn by_agents(conn: &mut DbConnection, ids: Vec<i64>) -> QueryResult<HashMap<i64, ActivityRow>> {
    let rows: Vec<ActivityRow> = agent_activity::table
        .select(ActivityRow::as_select())
        .filter(agent_activity::agent_id.eq_any(ids))
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.agent_id, row)).collect())
}

/// Locks the activities of these agents, in the order of `store`: for who then writes them in another.
pub(crate) fn lock(conn: &mut DbConnection, ids: Vec<i64>) -> QueryResult<()> {
    // A write transaction is alone on SQLite.
    let DbConnection::Postgres(conn) = conn else { return Ok(()) };
    let own = agent_activity::table.filter(agent_activity::agent_id.eq_any(ids));
    let locked = own.select(agent_activity::agent_id).order(agent_activity::agent_id).for_no_key_update();
    locked.load::<i64>(conn).map(|_| ())
}

/// Sets the newest logs of agents that exist, each at most once; an older log never takes the place of a newer.
pub(crate) fn set_latest(conn: &mut DbConnection, rows: &[Latest]) -> QueryResult<()> {
    use diesel::query_dsl::methods::FilterDsl;

    if rows.is_empty() {
        return Ok(());
    }
    upsert_each!(conn, rows, c, values => diesel::insert_into(agent_activity::table)
        .values(values)
        .on_conflict(agent_activity::agent_id)
        .do_update()
        .set((
            agent_activity::latest_run_id.eq(excluded(agent_activity::latest_run_id)),
            agent_activity::latest_status.eq(excluded(agent_activity::latest_status)),
        ))
        .filter(
            agent_activity::latest_run_id
                .is_null()
                .or(agent_activity::latest_run_id.le(excluded(agent_activity::latest_run_id))),
        )
        .execute(c))
}

/// Sets when agents that exist fire next, each at most once; what was said later wins.
pub(crate) fn set_next_fires(conn: &mut DbConnection, rows: &[NextFire]) -> QueryResult<()> {
    use diesel::query_dsl::methods::FilterDsl;

    if rows.is_empty() {
        return Ok(());
    }
    upsert_each!(conn, rows, c, values => diesel::insert_into(agent_activity::table)
        .values(values)
        .on_conflict(agent_activity::agent_id)
        .do_update()
        .set((
            agent_activity::next_fire_time.eq(excluded(agent_activity::next_fire_time)),
            agent_activity::next_fire_time_as_of.eq(excluded(agent_activity::next_fire_time_as_of)),
        ))
        .filter(agent_activity::next_fire_time_as_of.le(excluded(agent_activity::next_fire_time_as_of)))
        .execute(c))
}

/// [`set_next_fires`] for one agent.
pub(crate) fn set_next_fire(
    conn: &mut DbConnection,
    agent_id: i64,
    next_fire_time: Option<DateTime<Utc>>,
    as_of: DateTime<Utc>,
) -> QueryResult<()> {
    let next_fire_time = next_fire_time.map(Timestamp::from);
    set_next_fires(conn, &[NextFire { agent_id, next_fire_time, next_fire_time_as_of: as_of.into() }])
}
