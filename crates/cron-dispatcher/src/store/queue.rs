//! The queue: runs are made, wait their turn, and enter the window.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::id::RunId;
use model::run::RunRequest;
use model::wire::Wire;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::stage::Stage;
use crate::schema::{run_bodies, runs};

/// A run to be made; its id comes from the table.
#[derive(Debug, Clone)]
pub(crate) struct NewRun {
    pub(crate) turn: i64,
    pub(crate) finished_timing_version: Option<i64>,
    /// The agent's document version.
    pub(crate) agent_version: i64,
    pub(crate) max_attempts: u32,
    /// Whether the agent's runs must not overlap.
    pub(crate) exclusive: bool,
    /// What the runner will get; its run's id is filled in when the row is there.
    pub(crate) request: RunRequest,
}

#[derive(Insertable)]
#[diesel(table_name = runs, treat_none_as_default_value = false)]
struct InsertRow {
    agent_id: i64,
    mentor_id: i64,
    organisation: String,
    agent_version: i64,
    made_by: &'static str,
    fire_time: Timestamp,
    nominal_time: Timestamp,
    passed_over: i32,
    sequence: i64,
    run_attempt: i32,
    max_attempts: i32,
    stage: &'static str,
    exclusive: bool,
    turn: i64,
    sends: i32,
    requested_at: Timestamp,
    registry_held: bool,
    deliverer_held: bool,
    finished_timing_version: Option<i64>,
}

#[derive(Insertable)]
#[diesel(table_name = run_bodies)]
struct InsertBody {
    run_id: i64,
    request: Vec<u8>,
}

/// Makes runs, queued. Fills in their ids.
pub(crate) fn insert(conn: &mut DbConnection, new: &mut [NewRun], now: DateTime<Utc>) -> QueryResult<()> {
    // In pieces: SQLite binds at most 32,766 values in one statement.
    for piece in new.chunks_mut(1_000) {
        let rows: Vec<InsertRow> = piece.iter().map(|run| to_insert(run, now)).collect();
        let ids: Vec<(i64, i64, i64)> = per_backend!(conn, c => diesel::insert_into(runs::table)
            .values(&rows)
            .returning((runs::id, runs::agent_id, runs::sequence))
            .get_results(c))?;
        // The order of RETURNING is not promised: match by what is unique.
        let by_key: HashMap<(i64, i64), i64> =
            ids.into_iter().map(|(id, agent_id, sequence)| ((agent_id, sequence), id)).collect();
        let mut bodies = Vec::with_capacity(piece.len());
        for run in piece {
            let key = (run.request.run.agent_id.0, run.request.run.sequence);
            let id = *by_key.get(&key).ok_or(diesel::result::Error::NotFound)?;
            run.request.run.id = RunId(id);
            bodies.push(InsertBody { run_id: id, request: run.request.encode().to_vec() });
        }
        per_backend!(conn, c => diesel::insert_into(run_bodies::table).values(&bodies).execute(c))?;
    }
    Ok(())
}

fn to_insert(new: &NewRun, now: DateTime<Utc>) -> InsertRow {
    let run = &new.request.run;
    InsertRow {
        agent_id: run.agent_id.0,
        mentor_id: new.request.mentor.id.0,
        agent_version: new.agent_version,
        organisation: run.organisation.0.clone(),
        made_by: run.trigger.as_str(),
        fire_time: Timestamp::from(run.fire_time),
        nominal_time: Timestamp::from(run.nominal_time),
        passed_over: i32::try_from(run.passed_over).unwrap_or(i32::MAX),
        sequence: run.sequence,
        run_attempt: i32::try_from(run.run_attempt).unwrap_or(i32::MAX),
        max_attempts: i32::try_from(new.max_attempts).unwrap_or(i32::MAX),
        exclusive: new.exclusive,
        stage: Stage::Queued.as_str(),
        turn: new.turn,
        sends: 0,
        requested_at: Timestamp::from(now),
        registry_held: false,
        deliverer_held: false,
        finished_timing_version: new.finished_timing_version,
    }
}

/// What the runners are sent for these runs, in the order of `ids`.
pub(crate) fn requests(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<(i64, Vec<u8>)>> {
    let mut bodies: Vec<(i64, Vec<u8>)> = run_bodies::table
        .filter(run_bodies::run_id.eq_any(ids))
        .select((run_bodies::run_id, run_bodies::request))
        .load(conn)?;
    let place: HashMap<i64, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    bodies.sort_by_key(|(id, _)| place.get(id).copied());
    Ok(bodies)
}

/// Raises the sequence of ids to at least `floor`, so that a restored backup never uses an id twice.
pub(crate) fn raise_ids(conn: &mut DbConnection, floor: i64) -> QueryResult<()> {
    match conn {
        DbConnection::Postgres(c) => {
            diesel::sql_query("SELECT setval('run_ids', greatest($1, (SELECT last_value FROM run_ids)))")
                .bind::<diesel::sql_types::BigInt, _>(floor)
                .execute(c)?;
        }
        DbConnection::Sqlite(c) => {
            diesel::sql_query(
                "INSERT INTO sqlite_sequence (name, seq) \
                 SELECT 'runs', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'runs')",
            )
            .execute(c)?;
            diesel::sql_query("UPDATE sqlite_sequence SET seq = max(seq, $1) WHERE name = 'runs'")
                .bind::<diesel::sql_types::BigInt, _>(floor)
                .execute(c)?;
        }
    }
    Ok(())
}
