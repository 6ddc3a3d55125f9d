//! Schedules: the narrow rows that change at every fire.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};
use model::document::{CatchUp, OverlapPolicy, Previous};
use model::id::{AgentId, OrganisationKey};
use model::run::SkipReason;
use model::schedule::Timing;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};
use service_kit::per_backend;

use super::{read_word, stamp, time};
use crate::schema::schedules;

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
        }
    }
}

/// Locks up to `limit` schedules that are due, those that waited longest first, but for those set aside. Of those due at
/// one instant each organisation's first come first, so that who has few does not wait for who has many. What another
/// dispatcher has locked is left to it.
pub(crate) fn lock_due(
    conn: &mut DbConnection,
    now: DateTime<Utc>,
    aside: &[i64],
    limit: i64,
) -> QueryResult<Vec<Schedule>> {
    let due = schedules::table
        .filter(schedules::next_fire_at.le(Timestamp::from(now)).and(schedules::agent_id.ne_all(aside)))
        .order((schedules::next_fire_at, schedules::place))
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
        .order((schedules::next_fire_at, schedules::place))
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

/// Up to `limit` schedules of agents after this one, in key order.
pub(crate) fn page(conn: &mut DbConnection, after: i64, limit: i64) -> QueryResult<Vec<Schedule>> {
    let page = schedules::table.filter(schedules::agent_id.gt(after)).order(schedules::agent_id).limit(limit);
    let rows: Vec<Row> = page.select(Row::as_select()).load(conn)?;
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

/// The place of an organisation's next schedule. Two that come at once may share one.
pub(crate) fn next_place(conn: &mut DbConnection, organisation: &OrganisationKey) -> QueryResult<i64> {
    let own = schedules::table.filter(schedules::organisation.eq(organisation.as_str()));
    let last: Option<i64> = own.select(diesel::dsl::max(schedules::place)).first(conn)?;
    Ok(last.unwrap_or_default() + 1)
}

/// Stores what fires changed: everything but what a document says. On PostgreSQL all in one statement, where one for each
/// would be a way to the server and back for each run.
pub(crate) fn advance(conn: &mut DbConnection, advanced: &[Schedule]) -> QueryResult<()> {
    match conn {
        DbConnection::Postgres(c) => advance_together(c, advanced),
        DbConnection::Sqlite(c) => advanced.iter().try_for_each(|schedule| advance_one(c, schedule)),
    }
}

fn advance_together(conn: &mut PgConnection, advanced: &[Schedule]) -> QueryResult<()> {
    const ADVANCE: &str = "
        UPDATE schedules
           SET next_fire_at = new.next_fire_at, nominal_at = new.nominal_at, waits_for = new.waits_for,
               waits_since = new.waits_since, resumed_with = new.resumed_with, fired_through = new.fired_through,
               finished = new.finished, sequence = new.sequence
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
               AS new (agent_id, next_fire_at, nominal_at, waits_for, waits_since, resumed_with, fired_through,
                       finished, sequence)
         WHERE schedules.agent_id = new.agent_id";
    fn column<T>(advanced: &[Schedule], of: impl Fn(&Schedule) -> T) -> Vec<T> {
        advanced.iter().map(of).collect()
    }
    diesel::sql_query(ADVANCE)
        .bind::<Array<BigInt>, _>(column(advanced, |one| one.agent_id))
        .bind::<Array<Nullable<SqlTimestamp>>, _>(column(advanced, |one| stamp(one.next_fire_at)))
        .bind::<Array<Nullable<SqlTimestamp>>, _>(column(advanced, |one| stamp(one.nominal_at)))
        .bind::<Array<Nullable<Text>>, _>(column(advanced, |one| one.waits.map(|(reason, _)| reason.as_str())))
        .bind::<Array<Nullable<SqlTimestamp>>, _>(column(advanced, |one| stamp(one.waits.map(|(_, since)| since))))
        .bind::<Array<Nullable<Text>>, _>(column(advanced, |one| one.resumed_with.map(CatchUp::as_str)))
        .bind::<Array<SqlTimestamp>, _>(column(advanced, |one| Timestamp::from(one.fired_through)))
        .bind::<Array<Bool>, _>(column(advanced, |one| one.finished))
        .bind::<Array<BigInt>, _>(column(advanced, |one| one.sequence))
        .execute(conn)?;
    Ok(())
}

fn advance_one(conn: &mut SqliteConnection, schedule: &Schedule) -> QueryResult<()> {
    diesel::update(schedules::table.find(schedule.agent_id))
        .set((
            schedules::next_fire_at.eq(stamp(schedule.next_fire_at)),
            schedules::nominal_at.eq(stamp(schedule.nominal_at)),
            schedules::waits_for.eq(schedule.waits.map(|(reason, _)| reason.as_str())),
            schedules::waits_since.eq(stamp(schedule.waits.map(|(_, since)| since))),
            schedules::resumed_with.eq(schedule.resumed_with.map(CatchUp::as_str)),
            schedules::fired_through.eq(Timestamp::from(schedule.fired_through)),
            schedules::finished.eq(schedule.finished),
            schedules::sequence.eq(schedule.sequence),
        ))
        .execute(conn)?;
    Ok(())
}

/// Forgets a deleted agent's schedule.
pub(crate) fn delete(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    diesel::delete(schedules::table.find(agent_id)).execute(conn)?;
    Ok(())
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

/// A pause has ended: what waited for that is due now, to be settled as `choice` says. Where another pause goes on, it
/// waits again.
pub(crate) fn resume(conn: &mut DbConnection, of: Of<'_>, choice: Option<CatchUp>) -> QueryResult<usize> {
    let paused = schedules::waits_for.eq(Some(SkipReason::Paused.as_str()));
    let due = (
        schedules::next_fire_at.eq(schedules::waits_since),
        schedules::nominal_at.eq(schedules::waits_since),
        schedules::resumed_with.eq(choice.map(CatchUp::as_str)),
    );
    match of {
        Of::Everything => diesel::update(schedules::table.filter(paused)).set(due).execute(conn),
        Of::Organisation(key) => {
            diesel::update(schedules::table.filter(paused).filter(schedules::organisation.eq(key)))
                .set(due)
                .execute(conn)
        }
        Of::Agent(id) => {
            diesel::update(schedules::table.filter(paused).filter(schedules::agent_id.eq(id))).set(due).execute(conn)
        }
    }
}

/// Locks those among these agents' schedules whose next tick waits for a run to end, in key order.
pub(crate) fn lock_queueing(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<i64>> {
    let queueing = schedules::table
        .filter(schedules::agent_id.eq_any(agent_ids))
        .filter(schedules::overlap.eq(OverlapPolicy::QueueOne.as_str()))
        .order(schedules::agent_id)
        .select(schedules::agent_id);
    match conn {
        DbConnection::Postgres(c) => queueing.for_update().load(c),
        DbConnection::Sqlite(c) => queueing.load(c),
    }
}

/// Runs of these agents have ended: the ticks that waited for it are due now.
pub(crate) fn end_overlap(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<()> {
    if agent_ids.is_empty() {
        return Ok(());
    }
    diesel::update(schedules::table)
        .filter(schedules::agent_id.eq_any(agent_ids))
        .filter(schedules::waits_for.eq(Some(SkipReason::Overlap.as_str())))
        .set((schedules::next_fire_at.eq(schedules::waits_since), schedules::nominal_at.eq(schedules::waits_since)))
        .execute(conn)?;
    Ok(())
}

/// The agents of an organisation, in key order.
pub(crate) fn of_organisation(conn: &mut DbConnection, organisation: &str) -> QueryResult<Vec<i64>> {
    let agents = schedules::table.filter(schedules::organisation.eq(organisation)).order(schedules::agent_id);
    agents.select(schedules::agent_id).load(conn)
}

/// Up to `limit` schedules that were planned with an older edition of the time zone database, in key order.
pub(crate) fn of_older_tzdb(conn: &mut DbConnection, tzdb: &str, limit: i64) -> QueryResult<Vec<Schedule>> {
    let older = schedules::table.filter(schedules::tzdb.lt(tzdb)).order(schedules::agent_id).limit(limit);
    let rows: Vec<Row> = older.select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Schedule::try_from).collect()
}

/// The agents whose tick has come by `until`, in key order; of one organisation or of all.
pub(crate) fn due_of(conn: &mut DbConnection, of: Of<'_>, until: DateTime<Utc>) -> QueryResult<Vec<i64>> {
    let due = schedules::table
        .filter(schedules::next_fire_at.is_not_null().and(schedules::nominal_at.le(Timestamp::from(until))))
        .order(schedules::agent_id)
        .select(schedules::agent_id);
    match of {
        Of::Everything => due.load(conn),
        Of::Organisation(key) => due.filter(schedules::organisation.eq(key)).load(conn),
        Of::Agent(id) => due.filter(schedules::agent_id.eq(id)).load(conn),
    }
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
