//! Runs of which nothing was heard for too long.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use super::runs::{Row, RunRow, lock};
use super::stage::{Stage, stands_in};
use super::stamp;
use crate::schema::runs;

/// Whether any run's `check_at` has come.
pub(crate) fn any(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let overdue = runs::table.filter(runs::check_at.le(Timestamp::from(now)));
    diesel::select(diesel::dsl::exists(overdue)).get_result(conn)
}

/// How many runs should have been looked at by then, and were not.
pub(crate) fn count_before(conn: &mut DbConnection, then: DateTime<Utc>) -> QueryResult<i64> {
    runs::table.filter(runs::check_at.le(Timestamp::from(then))).count().get_result(conn)
}

/// Runs of one stage that is not final whose `check_at` has come, the oldest first.
pub(crate) fn of_stage(
    conn: &mut DbConnection,
    stage: Stage,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<RunRow>> {
    let rows: Vec<Row> = runs::table
        .filter(runs::check_at.le(Timestamp::from(now)).and(runs::stage.eq(stage.literal())))
        .order((runs::check_at, runs::id))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(RunRow::try_from).collect()
}

/// Runs that have ended, and whose `check_at` has come, the oldest first.
///
/// Well or not: asked for the few that ended in error, a database would read all that ended well, which may be a million
/// while a receiver is away. On PostgreSQL along an index of their own; SQLite walks that of all that are overdue, of which
/// few have not ended.
pub(crate) fn ended(conn: &mut DbConnection, now: DateTime<Utc>, limit: i64) -> QueryResult<Vec<RunRow>> {
    let rows: Vec<Row> = runs::table
        .filter(runs::check_at.le(Timestamp::from(now)).and(runs::ended_at.is_not_null()))
        .order((runs::check_at, runs::id))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(RunRow::try_from).collect()
}

/// Those of these locked runs of which still nothing was heard since they were found overdue: they stand where they did,
/// and in the same run attempt.
pub(crate) fn still(conn: &mut DbConnection, late: &[RunRow], now: DateTime<Utc>) -> QueryResult<Vec<RunRow>> {
    let ids: Vec<i64> = late.iter().map(|row| row.run.id.0).collect();
    let overdue = runs::table.filter(runs::id.eq_any(ids)).filter(runs::check_at.le(Timestamp::from(now)));
    let rows: Vec<Row> = overdue.order(runs::id).select(Row::as_select()).load(conn)?;
    let mut still = rows.into_iter().map(RunRow::try_from).collect::<QueryResult<Vec<_>>>()?;
    let found: HashMap<i64, &RunRow> = late.iter().map(|row| (row.run.id.0, row)).collect();
    let stands = |row: &RunRow| (row.stage, row.sends, row.run.run_attempt);
    still.retain(|row| found.get(&row.run.id.0).is_some_and(|found| stands(found) == stands(row)));
    Ok(still)
}

/// Notes that what its stage sends is sent once more. False: the run has moved on meanwhile, or nobody waits for it any
/// more.
pub(crate) fn send_again(conn: &mut DbConnection, row: &RunRow, check_at: DateTime<Utc>) -> QueryResult<bool> {
    let changed = diesel::update(runs::table.find(row.run.id.0))
        .filter(stands_in(row.stage).and(runs::sends.eq(row.sends)))
        .filter(runs::check_at.is_not_null())
        .set((runs::sends.eq(row.sends + 1), runs::check_at.eq(stamp(Some(check_at)))))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Takes back that these requests were sent once more: they were not.
pub(crate) fn unsend(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    lock(conn, ids)?;
    diesel::update(runs::table.filter(runs::id.eq_any(ids)))
        .filter(stands_in(Stage::Requested).and(runs::sends.gt(1)))
        .set(runs::sends.eq(runs::sends - 1))
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use service_kit::config::{ConnectionUrl, DatabaseConfig};
    use service_kit::database::{DatabaseError, Db};
    use service_kit::per_backend;
    use test_kit::Backends;

    use super::*;
    use crate::store::{migrations, runs::hold};

    #[tokio::test]
    async fn a_result_that_all_came_to_hold_since_it_was_found_overdue_is_not_sent_again() {
        let backends = Backends::of_environment();
        let url = ConnectionUrl::new(backends.database("dispatcher"));
        let db = Db::open(&DatabaseConfig { url, ..DatabaseConfig::default() }, migrations()).await.unwrap();
        let now: DateTime<Utc> = "2026-01-01T10:00:00Z".parse().unwrap();
        let sent = db.write(move |conn| {
            let ended = (
                (runs::agent_id.eq(7), runs::organisation.eq("acme"), runs::made_by.eq("schedule")),
                (runs::fire_time.eq(Timestamp::from(now)), runs::nominal_time.eq(Timestamp::from(now))),
                (runs::sequence.eq(1), runs::run_attempt.eq(1), runs::turn.eq(1), runs::sends.eq(1)),
                (runs::requested_at.eq(Timestamp::from(now)), runs::ended_at.eq(stamp(Some(now)))),
                (runs::stage.eq(Stage::Success.as_str()), runs::check_at.eq(stamp(Some(now)))),
                (runs::registry_held.eq(false), runs::deliverer_held.eq(false), runs::exclusive.eq(false)),
                (runs::mentor_id.eq(1), runs::passed_over.eq(0), runs::max_attempts.eq(1)),
            );
            per_backend!(conn, c => diesel::insert_into(runs::table).values(ended).execute(c))?;
            let late = super::ended(conn, now, 10)?;
            let id = late[0].run.id.0;
            hold(conn, &[id], &[])?;
            hold(conn, &[], &[id])?;
            Ok::<_, DatabaseError>((send_again(conn, &late[0], now)?, any(conn, now)?))
        });
        assert_eq!(sent.await.unwrap(), (false, false));
    }

    #[derive(QueryableByName)]
    struct Fetched {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        rows: i64,
    }

    /// How many runs this transaction has read.
    fn fetched(conn: &mut PgConnection) -> QueryResult<i64> {
        const FETCHED: &str = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows \
                               FROM pg_stat_xact_user_tables WHERE relname = 'runs'";
        Ok(diesel::sql_query(FETCHED).get_result::<Fetched>(conn)?.rows)
    }

    #[tokio::test]
    async fn however_many_results_are_overdue_no_more_are_read_than_are_announced() {
        const FILL: &str = "
            INSERT INTO runs (agent_id, mentor_id, organisation, made_by, fire_time, nominal_time, passed_over,
                              sequence, run_attempt, max_attempts, stage, exclusive, turn, sends, check_at,
                              requested_at, ended_at, registry_held, deliverer_held)
            SELECT number, 1, 'acme', 'schedule', now(), now(), 0, 1, 1, 1, 'success', false, number, 1,
                   '2026-01-01T10:00:00Z', now(), now(), false, false
              FROM generate_series(1, 50000) AS number";
        let now: DateTime<Utc> = "2026-01-01T10:01:00Z".parse().unwrap();
        let backends = Backends::of_environment();
        let url = ConnectionUrl::new(backends.database("dispatcher"));
        let db = Db::open(&DatabaseConfig { url, ..DatabaseConfig::default() }, migrations()).await.unwrap();
        let read = db.write(move |conn| {
            // SQLite does not count.
            let DbConnection::Postgres(c) = conn else { return Ok::<_, DatabaseError>((10, 10)) };
            diesel::sql_query(FILL).execute(c)?;
            let before = fetched(c)?;
            let late = super::ended(conn, now, 10)?.len();
            let DbConnection::Postgres(c) = conn else { return Ok((late, 0)) };
            Ok((late, fetched(c)? - before))
        });
        let (late, fetched) = read.await.unwrap();
        assert_eq!((late, fetched), (10, 10));
    }
}
