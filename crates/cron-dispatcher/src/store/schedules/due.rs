//! Schedules that are due, and where a fire leaves them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};
use model::document::CatchUp;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};

use super::{Of, Row, Schedule};
use crate::schema::schedules;
use crate::store::{stamp, time};

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
