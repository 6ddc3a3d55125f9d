//! Schedules: the narrow rows that change at every fire.

mod due;
mod waiting;
mod walks;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::document::{CatchUp, OverlapPolicy, Previous};
use model::id::{AgentId, OrganisationKey};
use model::run::{ScheduleRecord, SkipReason};
use model::schedule::Timing;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{ROWS_MAX, read_word, stamp, time};
use crate::schema::schedules;

pub(crate) use due::{advance, due, due_of, earliest, lock_due};
pub(crate) use waiting::{end_overlap, lock_concerned, lock_paused, paused_of, resume};
pub(crate) use walks::{lock_followers, lock_with_followers, of_older_tzdb, of_organisation, page};

/// What keeps the ticks of a schedule from being settled; the spellings are skip reasons.
pub(crate) type WaitsFor = SkipReason;

/// Where an agent's schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) agent_id: i64,
    pub(crate) organisation: OrganisationKey,
    pub(crate) timing_version: i64,
    /// The edition of the time zone database that the next tick was planned with.
    pub(crate) tzdb: String,
    /// When the next planned tick fires.
    pub(crate) next_fire_at: Option<DateTime<Utc>>,
    /// Its nominal time; none: the same.
    pub(crate) nominal_at: Option<DateTime<Utc>>,
    /// Every tick up to here, by nominal times, is settled or waits; never decreases.
    pub(crate) fired_through: DateTime<Utc>,
    /// The one-off of this timing version is done.
    pub(crate) finished: bool,
    /// Whether the agent has an endpoint.
    pub(crate) calls_back: bool,
    /// The sequence of the newest run.
    pub(crate) sequence: i64,
    /// What makes it ready instead of its crontab alone.
    pub(crate) follows: Option<Previous>,
    /// What becomes of a tick while an earlier run is not ended.
    pub(crate) overlap: OverlapPolicy,
    /// Whether the agent's endpoint is told of skipped ticks.
    pub(crate) calls_back_skipped: bool,
    /// Why ticks are not settled, and the nominal time of the first of these.
    pub(crate) waits: Option<(WaitsFor, DateTime<Utc>)>,
    /// Of a pause that has ended and whose ticks are not settled yet: what its end chose.
    pub(crate) resumed_with: Option<CatchUp>,
    /// Counts its organisation's schedules as they come.
    pub(crate) place: i64,
    /// The newest change of its organisation's zone that it follows.
    pub(crate) zone_version: i64,
}

impl Schedule {
    /// An agent's schedule before its first timing.
    pub(crate) fn new(agent_id: AgentId, organisation: OrganisationKey, place: i64) -> Self {
        Self {
            agent_id: agent_id.0,
            organisation,
            timing_version: 0,
            tzdb: String::new(),
            next_fire_at: None,
            nominal_at: None,
            fired_through: DateTime::UNIX_EPOCH,
            finished: false,
            calls_back: false,
            sequence: 0,
            follows: None,
            overlap: OverlapPolicy::Allow,
            calls_back_skipped: false,
            waits: None,
            resumed_with: None,
            place,
            zone_version: 0,
        }
    }

    /// The nominal time of the next planned tick.
    pub(crate) fn nominal(&self) -> Option<DateTime<Utc>> {
        self.nominal_at.or(self.next_fire_at)
    }

    /// Plans the tick of this nominal time, or none.
    pub(crate) fn plan(&mut self, timing: &Timing, nominal: Option<DateTime<Utc>>) {
        self.next_fire_at = nominal.map(|nominal| timing.fire_time(nominal));
        self.nominal_at = nominal;
    }

    /// The same tick is due again at `until`.
    pub(crate) fn put_off(&mut self, until: DateTime<Utc>) {
        self.nominal_at = self.nominal();
        self.next_fire_at = Some(until);
    }

    /// Where it stands, as the registry is told; whether it is finished is told with its last run, or tick.
    pub(crate) fn stands(&self) -> ScheduleRecord {
        ScheduleRecord {
            agent_id: AgentId(self.agent_id),
            next_fire_time: self.next_fire_at,
            finished_timing_version: None,
        }
    }

    /// Plans none.
    pub(crate) fn plan_none(&mut self) {
        (self.next_fire_at, self.nominal_at) = (None, None);
    }

    /// Lets its ticks wait, from the next planned one on or from where they wait already.
    pub(crate) fn wait(&mut self, reason: WaitsFor) {
        let since = self.waits.map(|(_, since)| since).or(self.nominal());
        self.waits = since.map(|since| (reason, since));
        self.plan_none();
    }
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schedules, treat_none_as_default_value = false, treat_none_as_null = true)]
struct Row {
    agent_id: i64,
    organisation: String,
    timing_version: i64,
    tzdb: String,
    next_fire_at: Option<Timestamp>,
    nominal_at: Option<Timestamp>,
    fired_through: Timestamp,
    finished: bool,
    calls_back: bool,
    sequence: i64,
    follows: Option<i64>,
    follows_status: Option<String>,
    overlap: String,
    calls_back_skipped: bool,
    waits_for: Option<String>,
    waits_since: Option<Timestamp>,
    resumed_with: Option<String>,
    place: i64,
    zone_version: i64,
}

impl TryFrom<Row> for Schedule {
    type Error = diesel::result::Error;

    fn try_from(row: Row) -> QueryResult<Self> {
        let follows = match (row.follows, row.follows_status) {
            (Some(id), Some(status)) => Some(Previous { agent_id: AgentId(id), status: read_word(&status)? }),
            _ => None,
        };
        let waits = match (row.waits_for, row.waits_since) {
            (Some(reason), Some(since)) => Some((read_word(&reason)?, since.into())),
            _ => None,
        };
        Ok(Self {
            agent_id: row.agent_id,
            organisation: OrganisationKey(row.organisation),
            timing_version: row.timing_version,
            tzdb: row.tzdb,
            next_fire_at: time(row.next_fire_at),
            nominal_at: time(row.nominal_at),
            fired_through: row.fired_through.into(),
            finished: row.finished,
            calls_back: row.calls_back,
            sequence: row.sequence,
            follows,
            overlap: read_word(&row.overlap)?,
            calls_back_skipped: row.calls_back_skipped,
            waits,
            resumed_with: row.resumed_with.as_deref().map(read_word).transpose()?,
            place: row.place,
            zone_version: row.zone_version,
        })
    }
}

impl From<&Schedule> for Row {
    fn from(schedule: &Schedule) -> Self {
        Self {
            agent_id: schedule.agent_id,
            organisation: schedule.organisation.0.clone(),
            timing_version: schedule.timing_version,
            tzdb: schedule.tzdb.clone(),
            next_fire_at: stamp(schedule.next_fire_at),
            nominal_at: stamp(schedule.nominal_at),
            fired_through: Timestamp::from(schedule.fired_through),
            finished: schedule.finished,
            calls_back: schedule.calls_back,
            sequence: schedule.sequence,
            follows: schedule.follows.map(|previous| previous.agent_id.0),
            follows_status: schedule.follows.map(|previous| previous.status.as_str().to_owned()),
            overlap: schedule.overlap.as_str().to_owned(),
            calls_back_skipped: schedule.calls_back_skipped,
            waits_for: schedule.waits.map(|(reason, _)| reason.as_str().to_owned()),
            waits_since: stamp(schedule.waits.map(|(_, since)| since)),
            resumed_with: schedule.resumed_with.map(|choice| choice.as_str().to_owned()),
            place: schedule.place,
            zone_version: schedule.zone_version,
        }
    }
}

/// Whose ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of<'a> {
    /// Everybody's.
    Everything,
    /// An organisation's.
    Organisation(&'a str),
    /// One agent's.
    Agent(i64),
}

/// Locks one agent's schedule, waiting for whoever has it.
pub(crate) fn lock(conn: &mut DbConnection, agent_id: i64) -> QueryResult<Option<Schedule>> {
    Ok(lock_all(conn, &[agent_id])?.pop())
}

/// Locks the schedules of these agents, in key order so that two dispatchers never wait for each other.
pub(crate) fn lock_all(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Schedule>> {
    let theirs = schedules::table.filter(schedules::agent_id.eq_any(agent_ids)).order(schedules::agent_id);
    let rows: Vec<Row> = match conn {
        DbConnection::Postgres(c) => theirs.for_update().load(c)?,
        DbConnection::Sqlite(c) => theirs.load(c)?,
    };
    rows.into_iter().map(Schedule::try_from).collect()
}

/// The schedules of these agents, as they stand.
pub(crate) fn load(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Schedule>> {
    let rows: Vec<Row> =
        schedules::table.filter(schedules::agent_id.eq_any(agent_ids)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Schedule::try_from).collect()
}

/// Stores schedules of new agents.
pub(crate) fn insert(conn: &mut DbConnection, new: &[Schedule]) -> QueryResult<()> {
    let rows: Vec<Row> = new.iter().map(Row::from).collect();
    for piece in rows.chunks(ROWS_MAX) {
        per_backend!(conn, c => diesel::insert_into(schedules::table).values(piece).execute(c))?;
    }
    Ok(())
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

/// The place of an organisation's next schedule. Two that come at once may share one.
pub(crate) fn next_place(conn: &mut DbConnection, organisation: &OrganisationKey) -> QueryResult<i64> {
    let own = schedules::table.filter(schedules::organisation.eq(organisation.as_str()));
    let last: Option<i64> = own.select(diesel::dsl::max(schedules::place)).first(conn)?;
    Ok(last.unwrap_or_default() + 1)
}

/// Forgets a deleted agent's schedule.
pub(crate) fn delete(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    diesel::delete(schedules::table.find(agent_id)).execute(conn)?;
    Ok(())
}
