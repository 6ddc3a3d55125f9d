//! What changes at every run of an agent: its latest log, and when it fires next.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::upsert::excluded;
use model::run::RunState;
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

/// What is said of an agent: when it fires next, and its newest log.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = agent_activity, treat_none_as_default_value = false)]
pub(crate) struct News {
    pub(crate) agent_id: i64,
    pub(crate) next_fire_time: Option<Timestamp>,
    /// When that was said.
    pub(crate) next_fire_time_as_of: Timestamp,
    /// Both or neither: `None` where nothing is said of a log.
    pub(crate) latest_run_id: Option<i64>,
    pub(crate) latest_status: Option<&'static str>,
}

impl News {
    /// When an agent fires next, as it was said then.
    pub(crate) fn fires_next(agent_id: i64, next_fire_time: Option<DateTime<Utc>>, said_at: DateTime<Utc>) -> Self {
        Self {
            agent_id,
            next_fire_time: next_fire_time.map(Timestamp::from),
            next_fire_time_as_of: said_at.into(),
            latest_run_id: None,
            latest_status: None,
        }
    }

    /// Adds what another says of the same agent, as [`take_over`] adds it to what is stored.
    fn join(&mut self, other: Self) {
        if self.next_fire_time_as_of <= other.next_fire_time_as_of {
            (self.next_fire_time, self.next_fire_time_as_of) = (other.next_fire_time, other.next_fire_time_as_of);
        }
        let has_not_ended =
            self.latest_run_id == other.latest_run_id && self.latest_status == Some(RunState::Running.as_str());
        if self.latest_run_id < other.latest_run_id || has_not_ended {
            (self.latest_run_id, self.latest_status) = (other.latest_run_id, other.latest_status);
        }
    }
}

/// Adds news to what is said of agents, each once.
pub(crate) fn add(known: &mut BTreeMap<i64, News>, news: News) {
    match known.entry(news.agent_id) {
        Entry::Vacant(entry) => drop(entry.insert(news)),
        Entry::Occupied(mut entry) => entry.get_mut().join(news),
    }
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

/// Takes over what is said of agents that exist, each at most once. Of next fire times the one said last stays; an older
/// log never takes the place of a newer, nor a log that has not ended that of itself ended.
pub(crate) fn take_over(conn: &mut DbConnection, news: &[News]) -> QueryResult<()> {
    use diesel::query_dsl::methods::FilterDsl;

    use self::agent_activity::{latest_run_id, latest_status, next_fire_time, next_fire_time_as_of};

    if news.is_empty() {
        return Ok(());
    }
    let is_later = || next_fire_time_as_of.le(excluded(next_fire_time_as_of));
    let has_not_ended = latest_run_id.eq(excluded(latest_run_id)).and(latest_status.eq(RunState::Running.as_str()));
    let is_newer = || latest_run_id.is_null().or(latest_run_id.lt(excluded(latest_run_id))).or(has_not_ended);
    upsert_each!(conn, news, c, values => diesel::insert_into(agent_activity::table)
        .values(values)
        .on_conflict(agent_activity::agent_id)
        .do_update()
        .set((
            next_fire_time.eq(case_when(is_later(), excluded(next_fire_time)).otherwise(next_fire_time)),
            next_fire_time_as_of
                .eq(case_when(is_later(), excluded(next_fire_time_as_of)).otherwise(next_fire_time_as_of)),
            latest_run_id.eq(case_when(is_newer(), excluded(latest_run_id)).otherwise(latest_run_id)),
            latest_status.eq(case_when(is_newer(), excluded(latest_status)).otherwise(latest_status)),
        ))
        .filter(is_later().or(is_newer()))
        .returning(agent_activity::agent_id)
        .load::<i64>(c))
    .map(|_: Vec<i64>| ())
}
