//! Schedules: the narrow rows that change at every fire.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::document::Previous;
use model::id::AgentId;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{read_word, stamp, time};
use crate::schema::schedules;

/// Where an agent's schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) agent_id: i64,
    pub(crate) timing_version: i64,
    /// The next planned tick.
    pub(crate) next_fire_at: Option<DateTime<Utc>>,
    /// Every tick up to here is settled; never decreases.
    pub(crate) fired_through: DateTime<Utc>,
    /// The one-off of this timing version is done.
    pub(crate) finished: bool,
    /// Whether the agent has an endpoint.
    pub(crate) calls_back: bool,
    /// The sequence of the newest run.
    pub(crate) sequence: i64,
    /// What makes it ready instead of its crontab alone.
    pub(crate) follows: Option<Previous>,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schedules, treat_none_as_default_value = false, treat_none_as_null = true)]
struct Row {
    agent_id: i64,
    timing_version: i64,
    next_fire_at: Option<Timestamp>,
    fired_through: Timestamp,
    finished: bool,
    calls_back: bool,
    sequence: i64,
    follows: Option<i64>,
    follows_status: Option<String>,
}

impl TryFrom<Row> for Schedule {
    type Error = diesel::result::Error;

    fn try_from(row: Row) -> QueryResult<Self> {
        let follows = match (row.follows, row.follows_status) {
            (Some(id), Some(status)) => Some(Previous { agent_id: AgentId(id), status: read_word(&status)? }),
            _ => None,
        };
        Ok(Self {
            agent_id: row.agent_id,
            timing_version: row.timing_version,
            next_fire_at: time(row.next_fire_at),
            fired_through: row.fired_through.into(),
            finished: row.finished,
            calls_back: row.calls_back,
            sequence: row.sequence,
            follows,
        })
    }
}

impl From<&Schedule> for Row {
    fn from(schedule: &Schedule) -> Self {
        Self {
            agent_id: schedule.agent_id,
            timing_version: schedule.timing_version,
            next_fire_at: stamp(schedule.next_fire_at),
            fired_through: Timestamp::from(schedule.fired_through),
            finished: schedule.finished,
            calls_back: schedule.calls_back,
            sequence: schedule.sequence,
            follows: schedule.follows.map(|previous| previous.agent_id.0),
            follows_status: schedule.follows.map(|previous| previous.status.as_str().to_owned()),
        }
    }
}

/// Locks up to `limit` schedules that are due, those that waited longest first, but for those set aside. What another
/// dispatcher has locked is left to it.
pub(crate) fn lock_due(
    conn: &mut DbConnection,
    now: DateTime<Utc>,
    aside: &[i64],
    limit: i64,
) -> QueryResult<Vec<Schedule>> {
    let due = schedules::table
        .filter(schedules::next_fire_at.le(Timestamp::from(now)).and(schedules::agent_id.ne_all(aside)))
        .order((schedules::next_fire_at, schedules::agent_id))
        .limit(limit)
        .select(schedules::all_columns);
    let rows: Vec<Row> = match conn {
        DbConnection::Postgres(c) => due.for_update().skip_locked().load(c)?,
        DbConnection::Sqlite(c) => due.load(c)?,
    };
    rows.into_iter().map(Schedule::try_from).collect()
}

/// The agents of up to `limit` schedules that are due, but for those set aside.
pub(crate) fn due(conn: &mut DbConnection, now: DateTime<Utc>, aside: &[i64], limit: i64) -> QueryResult<Vec<i64>> {
    schedules::table
        .filter(schedules::next_fire_at.le(Timestamp::from(now)).and(schedules::agent_id.ne_all(aside)))
        .order((schedules::next_fire_at, schedules::agent_id))
        .limit(limit)
        .select(schedules::agent_id)
        .load(conn)
}

/// Locks one agent's schedule, waiting for whoever has it.
pub(crate) fn lock(conn: &mut DbConnection, agent_id: i64) -> QueryResult<Option<Schedule>> {
    let one = schedules::table.find(agent_id);
    let row: Option<Row> = match conn {
        DbConnection::Postgres(c) => one.for_update().first(c).optional()?,
        DbConnection::Sqlite(c) => one.first(c).optional()?,
    };
    row.map(Schedule::try_from).transpose()
}

/// The schedules of these agents, as they stand.
pub(crate) fn load(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Schedule>> {
    let rows: Vec<Row> =
        schedules::table.filter(schedules::agent_id.eq_any(agent_ids)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Schedule::try_from).collect()
}

/// Locks the schedules that follow any of these agents, in key order so that two dispatchers never wait for each other.
pub(crate) fn lock_followers(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Schedule>> {
    let followers = schedules::table.filter(schedules::follows.eq_any(agent_ids)).order(schedules::agent_id);
    let rows: Vec<Row> = match conn {
        DbConnection::Postgres(c) => followers.for_update().load(c)?,
        DbConnection::Sqlite(c) => followers.load(c)?,
    };
    rows.into_iter().map(Schedule::try_from).collect()
}

/// Stores a schedule, new or not.
pub(crate) fn put(conn: &mut DbConnection, schedule: &Schedule) -> QueryResult<()> {
    let row = Row::from(schedule);
    per_backend!(conn, c => diesel::insert_into(schedules::table)
        .values(&row)
        .on_conflict(schedules::agent_id)
        .do_update()
        .set(&row)
        .execute(c))?;
    Ok(())
}

/// Stores what fires changed: everything but what a document says.
pub(crate) fn advance(conn: &mut DbConnection, advanced: &[Schedule]) -> QueryResult<()> {
    for schedule in advanced {
        diesel::update(schedules::table.find(schedule.agent_id))
            .set((
                schedules::next_fire_at.eq(stamp(schedule.next_fire_at)),
                schedules::fired_through.eq(Timestamp::from(schedule.fired_through)),
                schedules::finished.eq(schedule.finished),
                schedules::sequence.eq(schedule.sequence),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Forgets a deleted agent's schedule.
pub(crate) fn delete(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    diesel::delete(schedules::table.find(agent_id)).execute(conn)?;
    Ok(())
}

/// The earliest planned tick of all, but for those set aside.
pub(crate) fn earliest(conn: &mut DbConnection, aside: &[i64]) -> QueryResult<Option<DateTime<Utc>>> {
    let next: Option<Option<Timestamp>> = schedules::table
        .filter(schedules::next_fire_at.is_not_null().and(schedules::agent_id.ne_all(aside)))
        .order(schedules::next_fire_at)
        .select(schedules::next_fire_at)
        .first(conn)
        .optional()?;
    Ok(time(next.flatten()))
}
