//! Runs of which nothing was heard for too long.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use super::runs::{Row, RunRow};
use super::stage::Stage;
use super::stamp;
use crate::schema::runs;

/// Whether any run's `check_at` has come.
pub(crate) fn any(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let overdue = runs::table.filter(runs::check_at.le(Timestamp::from(now)));
    diesel::select(diesel::dsl::exists(overdue)).get_result(conn)
}

/// Runs of one stage whose `check_at` has come, the oldest first.
pub(crate) fn of_stage(
    conn: &mut DbConnection,
    stage: Stage,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<RunRow>> {
    let rows: Vec<Row> = runs::table
        .filter(runs::check_at.le(Timestamp::from(now)).and(runs::stage.eq(stage.as_str())))
        .order((runs::check_at, runs::id))
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(RunRow::try_from).collect()
}

/// Notes that what its stage sends is sent once more. False: the run has moved on meanwhile.
pub(crate) fn send_again(conn: &mut DbConnection, row: &RunRow, check_at: DateTime<Utc>) -> QueryResult<bool> {
    let changed = diesel::update(runs::table.find(row.run.id.0))
        .filter(runs::stage.eq(row.stage.as_str()).and(runs::sends.eq(row.sends)))
        .set((runs::sends.eq(row.sends + 1), runs::check_at.eq(stamp(Some(check_at)))))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Takes back that these requests were sent once more: they were not.
pub(crate) fn unsend(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    diesel::update(runs::table.filter(runs::id.eq_any(ids)))
        .filter(runs::stage.eq(Stage::Requested.as_str()).and(runs::sends.gt(1)))
        .set(runs::sends.eq(runs::sends - 1))
        .execute(conn)?;
    Ok(())
}
