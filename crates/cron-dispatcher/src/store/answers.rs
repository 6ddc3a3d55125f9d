//! Answers: the first one to each run ends it, and its bytes are kept until all who need the result hold it.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Text};
use model::run::RunAnswer;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};

use super::runs::{self, unfinished};
use super::stage::Stage;
use crate::schema::{run_bodies, runs as table, schedules};

/// Takes the first answer to each of these locked runs; each result is announced again at `check_at`, and to the deliverer
/// if the agent has an endpoint by now. Returns the answers by which runs ended: others were asked in another run attempt,
/// or had ended already.
///
/// On PostgreSQL by one statement for all and one for their bytes, where two for each would be two ways to the server
/// and back for each run.
pub(crate) fn take<'a>(
    conn: &mut DbConnection,
    answers: &[&'a (RunAnswer, Bytes)],
    check_at: DateTime<Utc>,
) -> QueryResult<Vec<&'a (RunAnswer, Bytes)>> {
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = HashSet::new();
    let mut first = answers.to_vec();
    first.retain(|(one, _)| seen.insert((one.run_id, one.run_attempt)));
    match conn {
        DbConnection::Postgres(c) => {
            let ended = end_together(c, &first, check_at)?;
            // Of a run that was asked twice, the answer that ended it.
            first.retain(|(answer, _)| ended.contains(&(answer.run_id.0, runs::attempt(answer.run_attempt))));
            keep_together(c, &first)?;
            Ok(first)
        }
        DbConnection::Sqlite(c) => {
            let mut ended = Vec::with_capacity(first.len());
            for given in first {
                let (answer, bytes) = given;
                if end_one(c, answer, check_at)? {
                    let body = run_bodies::table.find(answer.run_id.0);
                    diesel::update(body).set(run_bodies::answer.eq(Some(&bytes[..]))).execute(c)?;
                    ended.push(given);
                }
            }
            Ok(ended)
        }
    }
}

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Integer)]
    run_attempt: i32,
}

fn end_together(
    conn: &mut PgConnection,
    answers: &[&(RunAnswer, Bytes)],
    check_at: DateTime<Utc>,
) -> QueryResult<HashSet<(i64, i32)>> {
    const END: &str = "
        UPDATE runs
           SET stage = new.stage, sends = 1, exclusive = false, waits_for = NULL, started_at = new.started_at,
               ended_at = new.ended_at, check_at = $6,
               deliverer_held = NOT EXISTS (SELECT 1 FROM schedules
                                             WHERE schedules.agent_id = runs.agent_id AND schedules.calls_back)
          FROM unnest($1, $2, $3, $4, $5) AS new (id, run_attempt, stage, started_at, ended_at)
         WHERE runs.id = new.id AND runs.run_attempt = new.run_attempt AND runs.ended_at IS NULL
     RETURNING runs.id, runs.run_attempt";
    fn column<T>(answers: &[&(RunAnswer, Bytes)], of: impl Fn(&RunAnswer) -> T) -> Vec<T> {
        answers.iter().map(|(answer, _)| of(answer)).collect()
    }
    let ended: Vec<Ended> = diesel::sql_query(END)
        .bind::<Array<BigInt>, _>(column(answers, |one| one.run_id.0))
        .bind::<Array<Integer>, _>(column(answers, |one| runs::attempt(one.run_attempt)))
        .bind::<Array<Text>, _>(column(answers, |one| Stage::of(one.result.state()).as_str()))
        .bind::<Array<SqlTimestamp>, _>(column(answers, |one| Timestamp::from(one.started_at)))
        .bind::<Array<SqlTimestamp>, _>(column(answers, |one| Timestamp::from(one.ended_at)))
        .bind::<SqlTimestamp, _>(Timestamp::from(check_at))
        .load(conn)?;
    Ok(ended.into_iter().map(|one| (one.id, one.run_attempt)).collect())
}

/// Keeps the bytes as they were received.
fn keep_together(conn: &mut PgConnection, answers: &[&(RunAnswer, Bytes)]) -> QueryResult<()> {
    const KEEP: &str = "
        UPDATE run_bodies SET answer = new.answer
          FROM unnest($1, $2) AS new (run_id, answer)
         WHERE run_bodies.run_id = new.run_id";
    let (ids, bytes): (Vec<i64>, Vec<&[u8]>) =
        answers.iter().map(|(answer, bytes)| (answer.run_id.0, &bytes[..])).unzip();
    diesel::sql_query(KEEP).bind::<Array<BigInt>, _>(ids).bind::<Array<Binary>, _>(bytes).execute(conn)?;
    Ok(())
}

fn end_one(conn: &mut SqliteConnection, answer: &RunAnswer, check_at: DateTime<Utc>) -> QueryResult<bool> {
    let called_back = schedules::table.filter(schedules::agent_id.eq(table::agent_id).and(schedules::calls_back));
    let changed = diesel::update(unfinished(answer.run_id, answer.run_attempt))
        .set((
            table::stage.eq(Stage::of(answer.result.state()).as_str()),
            table::sends.eq(1),
            table::exclusive.eq(false),
            table::waits_for.eq(None::<String>),
            table::started_at.eq(Some(Timestamp::from(answer.started_at))),
            table::ended_at.eq(Some(Timestamp::from(answer.ended_at))),
            table::check_at.eq(Some(Timestamp::from(check_at))),
            table::deliverer_held.eq(not(exists(called_back))),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}
