//! Runs: a narrow row each, and their bytes beside it until all who need the result hold it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::document::Receiver;
use model::id::{AgentId, OrganisationKey, RunId};
use model::run::{Run, RunAnswer, RunRequest, RunState};
use model::wire::Wire;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{read_wire, read_word, stamp, time};
use crate::schema::{arrivals, run_bodies, runs};

/// How far a run has come, as the dispatcher tells it apart. The last two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits in the table for a place in the window.
    Queued,
    /// In the window: sent to the runners.
    Requested,
    /// Its mentor is being asked.
    Running,
    /// It ended with an answer.
    Success,
    /// It ended without one.
    Error,
}

impl Stage {
    /// Runs that have not ended.
    const UNFINISHED: [&'static str; 3] = ["queued", "requested", "running"];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
        }
    }

    /// The state that everyone else sees.
    pub(crate) fn state(self) -> RunState {
        match self {
            Self::Queued | Self::Requested => RunState::Pending,
            Self::Running => RunState::Running,
            Self::Success => RunState::Success,
            Self::Error => RunState::Error,
        }
    }

    fn read(word: &str) -> QueryResult<Self> {
        match word {
            "queued" => Ok(Self::Queued),
            "requested" => Ok(Self::Requested),
            other => Ok(Self::of(read_word(other)?)),
        }
    }

    fn of(state: RunState) -> Self {
        match state {
            RunState::Pending => Self::Queued,
            RunState::Running => Self::Running,
            RunState::Success => Self::Success,
            RunState::Error => Self::Error,
        }
    }
}

/// A run's row.
#[derive(Debug, Clone)]
pub(crate) struct RunRow {
    pub(crate) run: Run,
    pub(crate) stage: Stage,
    /// How often what this stage sends has been sent.
    pub(crate) sends: i32,
    pub(crate) requested_at: DateTime<Utc>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) registry_held: bool,
    pub(crate) deliverer_held: bool,
    pub(crate) finished_timing_version: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = runs)]
struct Row {
    id: i64,
    agent_id: i64,
    organisation: String,
    made_by: String,
    fire_time: Timestamp,
    nominal_time: Timestamp,
    sequence: i64,
    run_attempt: i32,
    stage: String,
    sends: i32,
    requested_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    registry_held: bool,
    deliverer_held: bool,
    finished_timing_version: Option<i64>,
}

impl TryFrom<Row> for RunRow {
    type Error = diesel::result::Error;

    fn try_from(row: Row) -> QueryResult<Self> {
        let run = Run {
            id: RunId(row.id),
            organisation: OrganisationKey(row.organisation),
            agent_id: AgentId(row.agent_id),
            trigger: read_word(&row.made_by)?,
            fire_time: row.fire_time.into(),
            nominal_time: row.nominal_time.into(),
            sequence: row.sequence,
            run_attempt: u32::try_from(row.run_attempt).unwrap_or(1),
        };
        Ok(Self {
            run,
            stage: Stage::read(&row.stage)?,
            sends: row.sends,
            requested_at: row.requested_at.into(),
            started_at: time(row.started_at),
            ended_at: time(row.ended_at),
            registry_held: row.registry_held,
            deliverer_held: row.deliverer_held,
            finished_timing_version: row.finished_timing_version,
        })
    }
}

/// A run to be made; its id comes from the table.
#[derive(Debug, Clone)]
pub(crate) struct NewRun {
    pub(crate) turn: i64,
    pub(crate) finished_timing_version: Option<i64>,
    /// What the runner will get; its run's id is filled in when the row is there.
    pub(crate) request: RunRequest,
}

#[derive(Insertable)]
#[diesel(table_name = runs, treat_none_as_default_value = false)]
struct InsertRow {
    agent_id: i64,
    organisation: String,
    made_by: &'static str,
    fire_time: Timestamp,
    nominal_time: Timestamp,
    sequence: i64,
    run_attempt: i32,
    stage: &'static str,
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
        organisation: run.organisation.0.clone(),
        made_by: run.trigger.as_str(),
        fire_time: Timestamp::from(run.fire_time),
        nominal_time: Timestamp::from(run.nominal_time),
        sequence: run.sequence,
        run_attempt: i32::try_from(run.run_attempt).unwrap_or(i32::MAX),
        stage: Stage::Queued.as_str(),
        turn: new.turn,
        sends: 0,
        requested_at: Timestamp::from(now),
        registry_held: false,
        deliverer_held: false,
        finished_timing_version: new.finished_timing_version,
    }
}

/// Moves queued runs, in turn, into the window of `window` places; each is overdue at `check_at`. Returns their ids in
/// turn.
pub(crate) fn enter_window(conn: &mut DbConnection, window: i64, check_at: DateTime<Utc>) -> QueryResult<Vec<i64>> {
    if let DbConnection::Postgres(c) = conn {
        // One dispatcher at a time, else each would fill the whole window.
        diesel::sql_query("SELECT pg_advisory_xact_lock(7262745)").execute(c)?;
    }
    let taken: i64 = runs::table.filter(runs::stage.eq(Stage::Requested.as_str())).count().get_result(conn)?;
    let room = window - taken;
    if room <= 0 {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = runs::table
        .filter(runs::stage.eq(Stage::Queued.as_str()))
        .order((runs::turn, runs::id))
        .limit(room)
        .select(runs::id)
        .load(conn)?;
    if !ids.is_empty() {
        diesel::update(runs::table.filter(runs::id.eq_any(&ids)))
            .set((
                runs::stage.eq(Stage::Requested.as_str()),
                runs::sends.eq(1),
                runs::check_at.eq(Some(Timestamp::from(check_at))),
            ))
            .execute(conn)?;
    }
    Ok(ids)
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

/// Those among these runs that have been started.
pub(crate) fn started(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashSet<i64>> {
    let started = runs::table.filter(runs::id.eq_any(ids)).filter(runs::started_at.is_not_null()).select(runs::id);
    Ok(started.load::<i64>(conn)?.into_iter().collect())
}

/// A run has begun. False: not this run attempt, or it has ended already.
pub(crate) fn start(
    conn: &mut DbConnection,
    id: RunId,
    run_attempt: u32,
    started_at: DateTime<Utc>,
    check_at: DateTime<Utc>,
) -> QueryResult<bool> {
    let changed = diesel::update(unfinished(id, run_attempt))
        .set((
            runs::stage.eq(Stage::Running.as_str()),
            runs::started_at.eq(Some(Timestamp::from(started_at))),
            runs::check_at.eq(Some(Timestamp::from(check_at))),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// Takes the first answer to a run. False: not this run attempt, or it has ended already.
pub(crate) fn end(conn: &mut DbConnection, answer: &RunAnswer, check_at: DateTime<Utc>) -> QueryResult<bool> {
    let changed = diesel::update(unfinished(answer.run_id, answer.run_attempt))
        .set((
            runs::stage.eq(Stage::of(answer.result.state()).as_str()),
            runs::sends.eq(1),
            runs::started_at.eq(Some(Timestamp::from(answer.started_at))),
            runs::ended_at.eq(Some(Timestamp::from(answer.ended_at))),
            runs::check_at.eq(Some(Timestamp::from(check_at))),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

#[diesel::dsl::auto_type(no_type_alias)]
fn unfinished(id: RunId, run_attempt: u32) -> _ {
    let attempt: i32 = i32::try_from(run_attempt).unwrap_or(i32::MAX);
    let number: i64 = id.0;
    let stages: [&'static str; 3] = Stage::UNFINISHED;
    runs::table.filter(runs::id.eq(number)).filter(runs::run_attempt.eq(attempt)).filter(runs::stage.eq_any(stages))
}

/// Keeps an answer's bytes as they were received.
pub(crate) fn keep_answer(conn: &mut DbConnection, id: RunId, answer: &[u8]) -> QueryResult<()> {
    diesel::update(run_bodies::table.find(id.0)).set(run_bodies::answer.eq(Some(answer))).execute(conn)?;
    Ok(())
}

/// Nobody waits to be called back for these results.
pub(crate) fn need_no_delivery(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    diesel::update(runs::table.filter(runs::id.eq_any(ids))).set(runs::deliverer_held.eq(true)).execute(conn)?;
    Ok(())
}

/// Locks the rows of these runs, in key order so that two dispatchers never wait for each other.
///
/// What is decided from several tables about a run is decided under this lock, by statements that come after it: else
/// two that each take away the other's last reason to keep its bytes would both keep them.
fn lock(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    if let DbConnection::Postgres(c) = conn {
        let rows = runs::table.filter(runs::id.eq_any(ids)).order(runs::id).select(runs::id);
        rows.for_update().load::<i64>(c)?;
    }
    Ok(())
}

/// A receiver stored these results. When all have that need them, the bytes are forgotten.
pub(crate) fn hold(conn: &mut DbConnection, receiver: Receiver, ids: &[i64]) -> QueryResult<()> {
    lock(conn, ids)?;
    let ended = || runs::table.filter(runs::id.eq_any(ids)).filter(runs::ended_at.is_not_null());
    match receiver {
        Receiver::AgentRegistry => diesel::update(ended()).set(runs::registry_held.eq(true)).execute(conn)?,
        Receiver::CallbackDeliverer => diesel::update(ended()).set(runs::deliverer_held.eq(true)).execute(conn)?,
        Receiver::CronDispatcher => 0,
    };
    forget_held(conn, ids)
}

/// Lets go of those among these runs that all hold who need them: nothing of them is announced again, and their bytes
/// are forgotten unless a follower still waits for the output.
pub(crate) fn forget_held(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    lock(conn, ids)?;
    let done: Vec<i64> = runs::table
        .filter(runs::id.eq_any(ids))
        .filter(runs::registry_held.eq(true).and(runs::deliverer_held.eq(true)))
        .select(runs::id)
        .load(conn)?;
    if !done.is_empty() {
        let waited_for = arrivals::table.select(arrivals::previous_run_id);
        diesel::update(runs::table.filter(runs::id.eq_any(&done)))
            .set(runs::check_at.eq(None::<Timestamp>))
            .execute(conn)?;
        let forgotten = run_bodies::table.filter(run_bodies::run_id.eq_any(&done));
        diesel::delete(forgotten.filter(run_bodies::run_id.ne_all(waited_for))).execute(conn)?;
    }
    Ok(())
}

/// Whether any run waits for a place in the window.
pub(crate) fn any_queued(conn: &mut DbConnection) -> QueryResult<bool> {
    let queued = runs::table.filter(runs::stage.eq(Stage::Queued.as_str()));
    diesel::select(diesel::dsl::exists(queued)).get_result(conn)
}

/// Whether any run's `check_at` has come.
pub(crate) fn any_overdue(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let overdue = runs::table.filter(runs::check_at.le(Timestamp::from(now)));
    diesel::select(diesel::dsl::exists(overdue)).get_result(conn)
}

/// Runs of one stage whose `check_at` has come, the oldest first.
pub(crate) fn overdue(
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

/// A run with its bytes, those of its request and of its answer.
pub(crate) type WithBodies = (RunRow, RunRequest, Option<RunAnswer>);

/// These runs with their bytes, as far as they are not forgotten.
pub(crate) fn load(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<WithBodies>> {
    type Loaded = (Row, Vec<u8>, Option<Vec<u8>>);
    let rows: Vec<Loaded> = runs::table
        .inner_join(run_bodies::table.on(run_bodies::run_id.eq(runs::id)))
        .filter(runs::id.eq_any(ids))
        .order(runs::id)
        .select((Row::as_select(), run_bodies::request, run_bodies::answer))
        .load(conn)?;
    rows.into_iter()
        .map(|(row, request, answer)| {
            let answer = answer.map(|bytes| read_wire(&bytes)).transpose()?;
            Ok((RunRow::try_from(row)?, read_wire(&request)?, answer))
        })
        .collect()
}

/// Forgets up to `limit` runs that ended before `before` and are held by all. Returns how many.
pub(crate) fn sweep(conn: &mut DbConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old: Vec<i64> = runs::table
        .filter(runs::ended_at.lt(Timestamp::from(before)))
        .filter(runs::check_at.is_null())
        .filter(runs::id.ne_all(run_bodies::table.select(run_bodies::run_id)))
        .limit(limit)
        .select(runs::id)
        .load(conn)?;
    diesel::delete(runs::table.filter(runs::id.eq_any(&old))).execute(conn)
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
