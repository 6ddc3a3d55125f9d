//! Periodic agents.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use model::crontab::CrontabFields;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::insert_all;
use super::schema::{agent_activity, agents, deleted_agents};

/// A periodic agent as it is stored.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = agents, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct AgentRow {
    #[diesel(skip_update)]
    pub(crate) id: i64,
    pub(crate) organisation: String,
    pub(crate) mentor_id: i64,
    pub(crate) title: String,
    pub(crate) username: String,
    pub(crate) last_editor: String,
    pub(crate) description: String,
    pub(crate) prompt: String,
    pub(crate) minute: String,
    pub(crate) hour: String,
    pub(crate) day_of_month: String,
    pub(crate) month_of_year: String,
    pub(crate) day_of_week: String,
    pub(crate) timezone: Option<String>,
    pub(crate) one_off: bool,
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) enabled: bool,
    pub(crate) pathway: String,
    pub(crate) callback_url: String,
    pub(crate) sealed_callback_secret: Option<Vec<u8>>,
    pub(crate) parent_session_id: String,
    pub(crate) parent_mentor_id: Option<i64>,
    pub(crate) previous_agent_id: Option<i64>,
    pub(crate) previous_agent_status: String,
    pub(crate) search_text: String,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    pub(crate) timing_version: i64,
    pub(crate) end_time: Option<Timestamp>,
    pub(crate) jitter_seconds: i32,
    pub(crate) overlap_policy: String,
    pub(crate) catch_up: String,
    pub(crate) catch_up_window_seconds: Option<i32>,
    pub(crate) max_attempts: i32,
    pub(crate) timeout_seconds: i32,
    pub(crate) callback_on_runs: bool,
    pub(crate) callback_on_skipped: bool,
    pub(crate) callback_encrypt: bool,
    pub(crate) callback_signature_only_hub: bool,
    pub(crate) sealed_previous_secret: Option<Vec<u8>>,
    pub(crate) previous_secret_until: Option<Timestamp>,
    pub(crate) paused: bool,
    pub(crate) paused_note: String,
    pub(crate) resumed_with: Option<String>,
}

impl AgentRow {
    /// The crontab as its owner wrote it.
    pub(crate) fn crontab(&self) -> CrontabFields {
        CrontabFields {
            minute: self.minute.clone(),
            hour: self.hour.clone(),
            day_of_month: self.day_of_month.clone(),
            month_of_year: self.month_of_year.clone(),
            day_of_week: self.day_of_week.clone(),
        }
    }

    /// Takes the crontab's fields over.
    pub(crate) fn set_crontab(&mut self, crontab: CrontabFields) {
        let CrontabFields { minute, hour, day_of_month, month_of_year, day_of_week } = crontab;
        self.minute = minute;
        self.hour = hour;
        self.day_of_month = day_of_month;
        self.month_of_year = month_of_year;
        self.day_of_week = day_of_week;
    }

    /// Whether its crontab makes it fire: with a previous agent, that agent does.
    pub(crate) fn fires_by_itself(&self) -> bool {
        self.enabled && self.previous_agent_id.is_none()
    }
}

diesel::define_sql_function! {
    /// The next value of the sequence of this name.
    fn nextval(sequence: Text) -> BigInt;
}

/// The ids of the next agents: their secrets are sealed for them before they are inserted. Nobody else gets them; those
/// that are not inserted leave a gap on PostgreSQL.
pub(crate) fn next_ids(conn: &mut DbConnection, count: usize) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Next {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match conn {
        // Stays prepared, which a text of SQL would not.
        DbConnection::Postgres(c) if count == 1 => Ok(vec![diesel::select(nextval("agents_id_seq")).get_result(c)?]),
        DbConnection::Postgres(c) => {
            let next = diesel::sql_query("SELECT nextval('agents_id_seq') AS id FROM generate_series(1, $1)");
            Ok(next.bind::<BigInt, _>(count).load(c)?.into_iter().map(|Next { id }| id).collect())
        }
        // A write transaction is alone on SQLite, where inserting an id raises the sequence.
        DbConnection::Sqlite(c) => {
            let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'agents'";
            let last: i64 = diesel::dsl::sql::<BigInt>(last).get_result(c)?;
            Ok((last + 1..=last + count).collect())
        }
    }
}

/// Inserts agents, whose ids are [`next_ids`].
pub(crate) fn insert(conn: &mut DbConnection, rows: Vec<&AgentRow>) -> QueryResult<()> {
    insert_all!(conn, agents::table, rows)
}

/// Writes every column of an agent.
pub(crate) fn update(conn: &mut DbConnection, row: &AgentRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::update(agents::table.find(row.id)).set(row).execute(c)).map(|_| ())
}

/// How many agents the organisation has.
pub(crate) fn count(conn: &mut DbConnection, organisation: &str) -> QueryResult<i64> {
    agents::table.filter(agents::organisation.eq(organisation)).count().get_result(conn)
}

/// The first agents of the organisation, in the order of their ids.
pub(crate) fn some_of(conn: &mut DbConnection, organisation: &str, limit: i64) -> QueryResult<Vec<i64>> {
    let own = agents::table.filter(agents::organisation.eq(organisation));
    own.select(agents::id).order(agents::id).limit(limit).load(conn)
}

/// Whether this user created any agent of the organisation.
pub(crate) fn any_by(conn: &mut DbConnection, organisation: &str, username: &str) -> QueryResult<bool> {
    let own = agents::table.filter(agents::organisation.eq(organisation).and(agents::username.eq(username)));
    diesel::select(diesel::dsl::exists(own)).get_result(conn)
}

/// Nobody waits for these agents any more.
pub(crate) fn unchain(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    diesel::update(agents::table.filter(agents::previous_agent_id.eq_any(ids.iter().map(|id| Some(*id)))))
        .set(agents::previous_agent_id.eq(None::<i64>))
        .execute(conn)
        .map(|_| ())
}

/// One agent of the organisation.
pub(crate) fn find(conn: &mut DbConnection, organisation: &str, id: i64) -> QueryResult<Option<AgentRow>> {
    agents::table
        .find(id)
        .filter(agents::organisation.eq(organisation))
        .select(AgentRow::as_select())
        .first(conn)
        .optional()
}

/// Whether the organisation has this agent.
pub(crate) fn exists(conn: &mut DbConnection, organisation: &str, id: i64) -> QueryResult<bool> {
    let own = agents::table.find(id).filter(agents::organisation.eq(organisation));
    diesel::select(diesel::dsl::exists(own)).get_result(conn)
}

/// One agent of the organisation, kept from other writers until the transaction ends.
pub(crate) fn find_for_update(conn: &mut DbConnection, organisation: &str, id: i64) -> QueryResult<Option<AgentRow>> {
    match conn {
        DbConnection::Postgres(c) => agents::table
            .find(id)
            .filter(agents::organisation.eq(organisation))
            .select(AgentRow::as_select())
            .for_no_key_update()
            .first(c)
            .optional(),
        // A write transaction is alone on SQLite.
        sqlite @ DbConnection::Sqlite(_) => find(sqlite, organisation, id),
    }
}

/// Of these agents, those that exist, and will until the transaction ends.
pub(crate) fn existing(conn: &mut DbConnection, ids: Vec<i64>) -> QueryResult<Vec<i64>> {
    let query = agents::table.filter(agents::id.eq_any(ids)).select(agents::id).order(agents::id);
    match conn {
        DbConnection::Postgres(c) => query.for_key_share().load(c),
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => query.load(c),
    }
}

/// The agent that must have run before this one.
pub(crate) fn previous_of(conn: &mut DbConnection, id: i64) -> QueryResult<Option<i64>> {
    let previous: Option<Option<i64>> =
        agents::table.find(id).select(agents::previous_agent_id).first(conn).optional()?;
    Ok(previous.flatten())
}

/// Locks agents that are to be deleted, and those that wait for them, and returns them all. Whoever counts on one of
/// them is waited for here, before anything else is locked. The organisation must be locked, so that nobody else begins
/// to wait for them.
pub(crate) fn lock_to_delete(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<i64>> {
    let waits = agents::previous_agent_id.eq_any(ids.iter().map(|id| Some(*id)));
    let query = agents::table.filter(agents::id.eq_any(ids).or(waits)).select(agents::id).order(agents::id);
    match conn {
        DbConnection::Postgres(c) => query.for_update().load(c),
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => query.load(c),
    }
}

/// Turns a finished one-off off, if its timing is still that one. Returns its organisation if it did.
pub(crate) fn finish_one_off(conn: &mut DbConnection, id: i64, timing_version: i64) -> QueryResult<Option<String>> {
    let turned_off = diesel::update(agents::table.find(id))
        .filter(agents::timing_version.eq(timing_version))
        .filter(agents::enabled.eq(true))
        .set(agents::enabled.eq(false))
        .execute(conn)?;
    if turned_off == 0 {
        return Ok(None);
    }
    agents::table.find(id).select(agents::organisation).first(conn).map(Some)
}

/// Removes an agent; its logs, no longer to be seen, wait to be swept.
pub(crate) fn delete(conn: &mut DbConnection, id: i64) -> QueryResult<()> {
    diesel::delete(agent_activity::table.find(id)).execute(conn)?;
    diesel::delete(agents::table.find(id)).execute(conn)?;
    let left_over = deleted_agents::agent_id.eq(id);
    per_backend!(conn, c => diesel::insert_into(deleted_agents::table)
        .values(left_over)
        .on_conflict_do_nothing()
        .execute(c))
    .map(|_| ())
}

/// An agent that was deleted and whose logs may not all be swept.
pub(crate) fn any_deleted(conn: &mut DbConnection) -> QueryResult<Option<i64>> {
    deleted_agents::table.select(deleted_agents::agent_id).first(conn).optional()
}

/// Nothing of this agent is left to sweep.
pub(crate) fn forget_deleted(conn: &mut DbConnection, id: i64) -> QueryResult<()> {
    diesel::delete(deleted_agents::table.find(id)).execute(conn).map(|_| ())
}
