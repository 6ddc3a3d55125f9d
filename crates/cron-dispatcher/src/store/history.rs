//! The history of schedules: which timing an agent's ticks had, and from when on.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::prelude::*;
use diesel::upsert::excluded;
use model::crontab::{CrontabFields, tzdb_version};
use model::document::Agent;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{ROWS_MAX, stamp, time};
use crate::schema::schedule_history;

/// Chapters that a step of the sweep looks at.
const STEP: usize = 10_000;

/// A timing, and from when on it decided: later than `effective_from`, up to the next one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub(crate) agent_id: i64,
    pub(crate) effective_from: DateTime<Utc>,
    pub(crate) tzdb: String,
    /// What its schedule said of its ticks; none: it had none of its own.
    pub(crate) schedule: Option<model::document::Schedule>,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = schedule_history, treat_none_as_default_value = false)]
struct Row {
    agent_id: i64,
    effective_from: Timestamp,
    timing_version: i64,
    tzdb: String,
    crontab: Option<String>,
    timezone: String,
    one_off: bool,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
}

impl TryFrom<Row> for Chapter {
    type Error = diesel::result::Error;

    fn try_from(row: Row) -> QueryResult<Self> {
        let damaged = |what: String| diesel::result::Error::DeserializationError(what.into());
        let timezone: Tz = row.timezone.parse().map_err(|_| damaged(format!("no such zone: {}", row.timezone)))?;
        let schedule = row.crontab.map(|crontab| model::document::Schedule {
            timing_version: row.timing_version,
            crontab: fields(&crontab),
            timezone: Some(timezone),
            one_off: row.one_off,
            start_time: time(row.start_time),
            end_time: time(row.end_time),
            ..model::document::Schedule::default()
        });
        Ok(Self { agent_id: row.agent_id, effective_from: row.effective_from.into(), tzdb: row.tzdb, schedule })
    }
}

/// A chapter that begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewChapter<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) organisation_zone: Tz,
    pub(crate) effective_from: DateTime<Utc>,
}

impl From<&NewChapter<'_>> for Row {
    fn from(new: &NewChapter<'_>) -> Self {
        let schedule = &new.agent.schedule;
        Self {
            agent_id: new.agent.id.0,
            effective_from: Timestamp::from(new.effective_from),
            timing_version: schedule.timing_version,
            tzdb: tzdb_version().to_owned(),
            crontab: new.agent.previous.is_none().then(|| text(&schedule.crontab)),
            timezone: schedule.timezone.unwrap_or(new.organisation_zone).name().to_owned(),
            one_off: schedule.one_off,
            start_time: stamp(schedule.start_time),
            end_time: stamp(schedule.end_time),
        }
    }
}

/// Begins chapters, of each agent at most one; one that would begin at the same moment never decided anything.
pub(crate) fn begin(conn: &mut DbConnection, new: &[NewChapter<'_>]) -> QueryResult<()> {
    let overwrite = (
        schedule_history::timing_version.eq(excluded(schedule_history::timing_version)),
        schedule_history::tzdb.eq(excluded(schedule_history::tzdb)),
        schedule_history::crontab.eq(excluded(schedule_history::crontab)),
        schedule_history::timezone.eq(excluded(schedule_history::timezone)),
        schedule_history::one_off.eq(excluded(schedule_history::one_off)),
        schedule_history::start_time.eq(excluded(schedule_history::start_time)),
        schedule_history::end_time.eq(excluded(schedule_history::end_time)),
    );
    let rows: Vec<Row> = new.iter().map(Row::from).collect();
    for piece in rows.chunks(ROWS_MAX) {
        per_backend!(conn, c => diesel::insert_into(schedule_history::table)
            .values(piece)
            .on_conflict((schedule_history::agent_id, schedule_history::effective_from))
            .do_update()
            .set(overwrite)
            .execute(c))?;
    }
    Ok(())
}

/// The chapters of these agents, in order.
pub(crate) fn load(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Chapter>> {
    let rows: Vec<Row> = schedule_history::table
        .filter(schedule_history::agent_id.eq_any(agent_ids))
        .order((schedule_history::agent_id, schedule_history::effective_from))
        .load(conn)?;
    rows.into_iter().map(Chapter::try_from).collect()
}

/// Forgets a deleted agent's.
pub(crate) fn delete(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    diesel::delete(schedule_history::table.filter(schedule_history::agent_id.eq(agent_id))).execute(conn)?;
    Ok(())
}

/// How far a walk along all chapters has come, which looks for those that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Chapters that were forgotten.
    pub(crate) forgotten: usize,
    /// The next step begins behind this agent.
    pub(crate) after: i64,
}

/// One step of it: of the next [`STEP`] chapters forgets up to `limit` that were over before `before`. Nothing else
/// says which are over, and almost all are an agent's only one.
pub(crate) fn sweep(conn: &mut DbConnection, after: i64, before: DateTime<Utc>, limit: usize) -> QueryResult<Walked> {
    let begun: Vec<(i64, Timestamp)> = schedule_history::table
        .filter(schedule_history::agent_id.gt(after))
        .filter(schedule_history::effective_from.lt(Timestamp::from(before)))
        .order((schedule_history::agent_id, schedule_history::effective_from))
        .limit(STEP as i64)
        .select((schedule_history::agent_id, schedule_history::effective_from))
        .load(conn)?;
    // Over is what another of the same agent comes after.
    let over = begun.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[0]);
    let over: Vec<(i64, Timestamp)> = over.take(limit).collect();
    for (agent_id, effective_from) in &over {
        diesel::delete(schedule_history::table.find((agent_id, effective_from))).execute(conn)?;
    }
    // The last agent's may go on beyond the step.
    let last = if over.len() == limit { over.last() } else { begun.last().filter(|_| begun.len() == STEP) };
    Ok(Walked { forgotten: over.len(), after: last.map_or(i64::MIN, |(agent_id, _)| agent_id - 1) })
}

/// The five fields, which hold no white space, in the order in which crontabs are written.
fn text(fields: &CrontabFields) -> String {
    let CrontabFields { minute, hour, day_of_month, month_of_year, day_of_week } = fields;
    format!("{minute} {hour} {day_of_month} {month_of_year} {day_of_week}")
}

fn fields(text: &str) -> CrontabFields {
    let mut parts = text.split(' ').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    CrontabFields { minute: next(), hour: next(), day_of_month: next(), month_of_year: next(), day_of_week: next() }
}
