//! Ticks: what became of each planned moment.
//!
//! A tick that ran is its run's row; spans of ticks that did not are rows of `skipped_ticks`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use model::id::RunId;
use model::internal::TickPage;
use model::run::{Tick, TickOutcome, Trigger};
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};
use service_kit::per_backend;

use super::read_word;
use crate::plan::Span;
use crate::schema::{runs, skipped_ticks};

#[derive(Insertable)]
#[diesel(table_name = skipped_ticks)]
struct SkippedRow {
    agent_id: i64,
    fire_time: Timestamp,
    until: Timestamp,
    reason: String,
}

/// Records spans of ticks that became no run.
pub(crate) fn skip(conn: &mut DbConnection, spans: &[(i64, Span)]) -> QueryResult<()> {
    let rows: Vec<SkippedRow> = spans
        .iter()
        .map(|(agent_id, span)| SkippedRow {
            agent_id: *agent_id,
            fire_time: Timestamp::from(span.from),
            until: Timestamp::from(span.until),
            reason: span.reason.as_str().to_owned(),
        })
        .collect();
    // In pieces: SQLite binds at most 32,766 values in one statement.
    for piece in rows.chunks(1_000) {
        per_backend!(conn, c => diesel::insert_into(skipped_ticks::table).values(piece).execute(c))?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct TickRow {
    #[diesel(sql_type = SqlTimestamp)]
    fire_time: Timestamp,
    #[diesel(sql_type = SqlTimestamp)]
    nominal_time: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    run_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    until: Option<Timestamp>,
}

impl TryFrom<TickRow> for Tick {
    type Error = diesel::result::Error;

    fn try_from(row: TickRow) -> QueryResult<Self> {
        let outcome = match (row.run_id, row.reason, row.until) {
            (Some(id), _, _) => TickOutcome::Run(RunId(id)),
            (None, Some(reason), Some(until)) => {
                TickOutcome::Skipped { reason: read_word(&reason)?, until: until.into() }
            }
            _ => return Err(diesel::result::Error::NotFound),
        };
        Ok(Self { fire_time: row.fire_time.into(), nominal_time: row.nominal_time.into(), outcome })
    }
}

/// One page of an agent's ticks, newest first. Runs that somebody asked for are no ticks.
pub(crate) fn page(conn: &mut DbConnection, agent_id: i64, offset: i64, limit: i64) -> QueryResult<TickPage> {
    const PAGE: &str = "
        SELECT fire_time, nominal_time, id AS run_id, NULL AS reason, NULL AS until
          FROM runs WHERE agent_id = $1 AND made_by = 'schedule'
        UNION ALL
        SELECT fire_time, fire_time AS nominal_time, NULL AS run_id, reason, until
          FROM skipped_ticks WHERE agent_id = $1
        ORDER BY fire_time DESC LIMIT $2 OFFSET $3";
    let rows: Vec<TickRow> = per_backend!(conn, c => diesel::sql_query(PAGE)
        .bind::<BigInt, _>(agent_id)
        .bind::<BigInt, _>(limit)
        .bind::<BigInt, _>(offset)
        .load(c))?;
    let ran: i64 = runs::table
        .filter(runs::agent_id.eq(agent_id).and(runs::made_by.eq(Trigger::Schedule.as_str())))
        .count()
        .get_result(conn)?;
    let skipped: i64 = skipped_ticks::table.filter(skipped_ticks::agent_id.eq(agent_id)).count().get_result(conn)?;
    let ticks = rows.into_iter().map(Tick::try_from).collect::<QueryResult<_>>()?;
    Ok(TickPage { count: ran + skipped, ticks })
}

/// Forgets up to `limit` skipped spans that ended before `before`. Returns how many.
pub(crate) fn sweep(conn: &mut DbConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old: Vec<(i64, Timestamp)> = skipped_ticks::table
        .filter(skipped_ticks::until.lt(Timestamp::from(before)))
        .select((skipped_ticks::agent_id, skipped_ticks::fire_time))
        .limit(limit)
        .load(conn)?;
    for (agent_id, fire_time) in &old {
        diesel::delete(skipped_ticks::table.find((agent_id, fire_time))).execute(conn)?;
    }
    Ok(old.len())
}
