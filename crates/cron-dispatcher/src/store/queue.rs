//! The queue: runs are made, wait their turn, and enter the window.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text};
use model::id::RunId;
use model::run::RunRequest;
use model::wire::Wire;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};

use super::stage::Stage;
use super::{ROWS_MAX, octet_length, stamp};
use crate::pieces::pieces;
use crate::schema::{run_bodies, runs};

/// A run, and what its runner is to be sent.
pub(crate) type Request = (i64, Bytes);

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
    check_at: Option<Timestamp>,
    requested_at: Timestamp,
    registry_held: bool,
    deliverer_held: bool,
    finished_timing_version: Option<i64>,
}

/// Makes runs, queued; or requested already, to be overdue at `check_at`. Fills in their ids. Returns what their runners
/// are to be sent.
///
/// On PostgreSQL by one statement of one array for each column: one that binds every value of every row is parsed and
/// planned anew for each number of rows.
pub(crate) fn insert(
    conn: &mut DbConnection,
    new: &mut [NewRun],
    check_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Request>> {
    let mut requests = Vec::with_capacity(new.len());
    for piece in new.chunks_mut(ROWS_MAX) {
        let rows: Vec<InsertRow> = piece.iter().map(|run| to_insert(run, check_at, now)).collect();
        let made = match conn {
            DbConnection::Postgres(c) => insert_together(c, &rows)?,
            DbConnection::Sqlite(c) => {
                let made = diesel::insert_into(runs::table).values(&rows);
                made.returning(Made::as_returning()).get_results(c)?
            }
        };
        // The order of RETURNING is not promised: match by what is unique.
        let by_key: HashMap<(i64, i64), i64> =
            made.into_iter().map(|made| ((made.agent_id, made.sequence), made.id)).collect();
        let mut bodies = Vec::with_capacity(piece.len());
        for run in piece {
            let key = (run.request.run.agent_id.0, run.request.run.sequence);
            let id = *by_key.get(&key).ok_or(diesel::result::Error::NotFound)?;
            run.request.run.id = RunId(id);
            bodies.push((id, run.request.encode()));
        }
        insert_bodies(conn, &bodies)?;
        requests.append(&mut bodies);
    }
    Ok(requests)
}

/// A run that has its row.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = runs)]
struct Made {
    id: i64,
    agent_id: i64,
    sequence: i64,
}

fn insert_together(conn: &mut PgConnection, rows: &[InsertRow]) -> QueryResult<Vec<Made>> {
    const INSERT: &str = "
        INSERT INTO runs (agent_id, mentor_id, organisation, agent_version, made_by, fire_time, nominal_time,
                          passed_over, sequence, run_attempt, max_attempts, exclusive, turn, finished_timing_version,
                          stage, sends, check_at, requested_at, registry_held, deliverer_held)
        SELECT new.*, $15, $16, $17, $18, false, false
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS new
     RETURNING id, agent_id, sequence";
    let Some(InsertRow { stage, sends, check_at, requested_at, .. }) = rows.first() else { return Ok(Vec::new()) };
    fn column<T>(rows: &[InsertRow], of: impl Fn(&InsertRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let organisations: Vec<&str> = rows.iter().map(|one| one.organisation.as_str()).collect();
    diesel::sql_query(INSERT)
        .bind::<Array<BigInt>, _>(column(rows, |one| one.agent_id))
        .bind::<Array<BigInt>, _>(column(rows, |one| one.mentor_id))
        .bind::<Array<Text>, _>(organisations)
        .bind::<Array<BigInt>, _>(column(rows, |one| one.agent_version))
        .bind::<Array<Text>, _>(column(rows, |one| one.made_by))
        .bind::<Array<SqlTimestamp>, _>(column(rows, |one| one.fire_time))
        .bind::<Array<SqlTimestamp>, _>(column(rows, |one| one.nominal_time))
        .bind::<Array<Integer>, _>(column(rows, |one| one.passed_over))
        .bind::<Array<BigInt>, _>(column(rows, |one| one.sequence))
        .bind::<Array<Integer>, _>(column(rows, |one| one.run_attempt))
        .bind::<Array<Integer>, _>(column(rows, |one| one.max_attempts))
        .bind::<Array<Bool>, _>(column(rows, |one| one.exclusive))
        .bind::<Array<BigInt>, _>(column(rows, |one| one.turn))
        .bind::<Array<Nullable<BigInt>>, _>(column(rows, |one| one.finished_timing_version))
        .bind::<Text, _>(stage)
        .bind::<Integer, _>(sends)
        .bind::<Nullable<SqlTimestamp>, _>(check_at)
        .bind::<SqlTimestamp, _>(requested_at)
        .load(conn)
}

fn insert_bodies(conn: &mut DbConnection, bodies: &[Request]) -> QueryResult<()> {
    const INSERT: &str = "INSERT INTO run_bodies (run_id, request) SELECT * FROM unnest($1, $2)";
    match conn {
        DbConnection::Postgres(c) => {
            let (ids, requests): (Vec<i64>, Vec<&[u8]>) = bodies.iter().map(|(id, body)| (*id, &body[..])).unzip();
            diesel::sql_query(INSERT).bind::<Array<BigInt>, _>(ids).bind::<Array<Binary>, _>(requests).execute(c)?;
        }
        DbConnection::Sqlite(c) => {
            let row = |(id, body): &Request| (run_bodies::run_id.eq(*id), run_bodies::request.eq(body.to_vec()));
            let rows: Vec<_> = bodies.iter().map(row).collect();
            diesel::insert_into(run_bodies::table).values(rows).execute(c)?;
        }
    }
    Ok(())
}

fn to_insert(new: &NewRun, check_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> InsertRow {
    let run = &new.request.run;
    let (stage, sends) = if check_at.is_some() { (Stage::Requested, 1) } else { (Stage::Queued, 0) };
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
        stage: stage.as_str(),
        turn: new.turn,
        sends,
        check_at: stamp(check_at),
        requested_at: Timestamp::from(now),
        registry_held: false,
        deliverer_held: false,
        finished_timing_version: new.finished_timing_version,
    }
}

/// These runs in pieces of which what the runners are sent can be had in memory at once, in their order.
pub(crate) fn in_pieces(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<Vec<i64>>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sizes: Vec<(i64, i32)> = run_bodies::table
        .filter(run_bodies::run_id.eq_any(ids))
        .select((run_bodies::run_id, octet_length(run_bodies::request)))
        .load(conn)?;
    let sizes: HashMap<i64, i32> = sizes.into_iter().collect();
    let sized = |id: &i64| Some((*id, usize::try_from(*sizes.get(id)?).unwrap_or_default()));
    Ok(pieces(ids.iter().filter_map(sized)))
}

/// What the runners are sent for these runs, in the order of `ids`.
pub(crate) fn requests(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<Request>> {
    let mut bodies: Vec<(i64, Vec<u8>)> = run_bodies::table
        .filter(run_bodies::run_id.eq_any(ids))
        .select((run_bodies::run_id, run_bodies::request))
        .load(conn)?;
    let place: HashMap<i64, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    bodies.sort_by_key(|(id, _)| place.get(id).copied());
    Ok(bodies.into_iter().map(|(id, body)| (id, Bytes::from(body))).collect())
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
