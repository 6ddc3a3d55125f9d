//! Runs: a narrow row each, and their bytes beside it until all who need the result hold it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use model::id::{AgentId, OrganisationKey, RunId};
use model::run::{Run, RunAnswer, RunRequest};
use model::wire::Wire;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::literal::Literal;
use super::stage::{Stage, stands_in};
use super::{octet_length, read_wire, read_word, time};
use crate::pieces::pieces;
use crate::schema::{arrivals, run_bodies, runs};

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
    pub(crate) agent_version: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = runs)]
pub(super) struct Row {
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
    agent_version: Option<i64>,
    passed_over: i32,
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
            passed_over: u32::try_from(row.passed_over).unwrap_or_default(),
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
            agent_version: row.agent_version,
        })
    }
}

/// What the judge has to know of a run before its answer.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) row: RunRow,
    max_attempts: i32,
    /// Of its request; none if that is forgotten.
    pub(crate) request_bytes: usize,
}

impl Standing {
    pub(crate) fn is_started(&self) -> bool {
        self.row.started_at.is_some()
    }

    /// Whether a failed answer to this run attempt is not the last.
    pub(crate) fn may_try_again(&self, run_attempt: u32) -> bool {
        run_attempt == self.row.run.run_attempt && attempt(run_attempt) < self.max_attempts
    }
}

/// Where these runs stand.
pub(crate) fn standing(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashMap<i64, Standing>> {
    // Not by a join: of many runs, while the tables grow, PostgreSQL would read all bodies rather than theirs.
    let bytes = run_bodies::table
        .filter(run_bodies::run_id.eq(runs::id))
        .select(octet_length(run_bodies::request))
        .single_value();
    let rows: Vec<(Row, i32, Option<i32>)> =
        runs::table.filter(runs::id.eq_any(ids)).select((Row::as_select(), runs::max_attempts, bytes)).load(conn)?;
    let standing = |(row, max_attempts, bytes): (Row, i32, Option<i32>)| {
        let request_bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        Ok((row.id, Standing { row: RunRow::try_from(row)?, max_attempts, request_bytes }))
    };
    rows.into_iter().map(standing).collect()
}

/// The runs of these agents that have not ended, of agents that do not let them overlap.
pub(crate) fn exclusive(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<HashMap<i64, Vec<i64>>> {
    let mut busy: HashMap<i64, Vec<i64>> = HashMap::new();
    if agent_ids.is_empty() {
        return Ok(busy);
    }
    let rows: Vec<(i64, i64)> = runs::table
        .filter(runs::exclusive)
        .filter(runs::agent_id.eq_any(agent_ids))
        .order(runs::id)
        .select((runs::agent_id, runs::id))
        .load(conn)?;
    for (agent_id, id) in rows {
        busy.entry(agent_id).or_default().push(id);
    }
    Ok(busy)
}

/// From now on the runs of this agent must not overlap, those under way included.
pub(crate) fn make_exclusive(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    // Stage by stage, along the index of each: what has ended is a hundred times as much.
    #[diesel::dsl::auto_type(no_type_alias)]
    fn in_stage(stage: Stage, agent_id: i64) -> _ {
        let stage: Literal = stage.literal();
        runs::table.filter(runs::stage.eq(stage)).filter(runs::agent_id.eq(agent_id))
    }
    if let DbConnection::Postgres(c) = conn {
        let mut ids: Vec<i64> = Vec::new();
        for stage in Stage::UNFINISHED {
            ids.extend(in_stage(stage, agent_id).select(runs::id).load::<i64>(c)?);
        }
        lock(conn, &ids)?;
    }
    for stage in Stage::UNFINISHED {
        diesel::update(in_stage(stage, agent_id)).set(runs::exclusive.eq(true)).execute(conn)?;
    }
    Ok(())
}

/// The next attempt of a run, at `at`. False: not this run attempt, or it has ended already.
pub(crate) fn try_again(conn: &mut DbConnection, answer: &RunAnswer, at: DateTime<Utc>) -> QueryResult<bool> {
    let changed = diesel::update(unfinished(answer.run_id, answer.run_attempt))
        .set((
            runs::stage.eq(Stage::Delayed.as_str()),
            runs::run_attempt.eq(runs::run_attempt + 1),
            runs::sends.eq(0),
            runs::started_at.eq(Some(Timestamp::from(answer.started_at))),
            runs::check_at.eq(Some(Timestamp::from(at))),
        ))
        .execute(conn)?;
    if changed == 0 {
        return Ok(false);
    }
    let body: Vec<u8> = run_bodies::table.find(answer.run_id.0).select(run_bodies::request).first(conn)?;
    let mut request: RunRequest = read_wire(&body)?;
    request.run.run_attempt = answer.run_attempt.saturating_add(1);
    let again = run_bodies::request.eq(request.encode().to_vec());
    diesel::update(run_bodies::table.find(answer.run_id.0)).set(again).execute(conn)?;
    Ok(true)
}

/// A run has begun. False: not this run attempt, or it has ended already.
pub(crate) fn start(
    conn: &mut DbConnection,
    id: RunId,
    run_attempt: u32,
    started_at: DateTime<Utc>,
    check_at: DateTime<Utc>,
) -> QueryResult<bool> {
    let [requested, running] = Stage::IN_FLIGHT.map(stands_in);
    let in_flight = requested.or(running);
    // One that was taken back meanwhile is stopped; only what is meant to run is running.
    let changed = diesel::update(unfinished(id, run_attempt))
        .filter(in_flight)
        .set((
            runs::stage.eq(Stage::Running.as_str()),
            runs::started_at.eq(Some(Timestamp::from(started_at))),
            runs::check_at.eq(Some(Timestamp::from(check_at))),
        ))
        .execute(conn)?;
    Ok(changed == 1)
}

/// A run attempt as its column has it.
pub(super) fn attempt(run_attempt: u32) -> i32 {
    i32::try_from(run_attempt).unwrap_or(i32::MAX)
}

/// The run, if it has not ended and this is its attempt.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn unfinished(id: RunId, run_attempt: u32) -> _ {
    let attempt: i32 = attempt(run_attempt);
    let number: i64 = id.0;
    runs::table.filter(runs::id.eq(number)).filter(runs::run_attempt.eq(attempt)).filter(runs::ended_at.is_null())
}

/// Locks the rows of these runs, in key order so that two dispatchers never wait for each other.
///
/// What is decided from several tables about a run is decided under this lock, by statements that come after it: else
/// two that each take away the other's last reason to keep its bytes would both keep them.
pub(crate) fn lock(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    if let DbConnection::Postgres(c) = conn {
        let rows = runs::table.filter(runs::id.eq_any(ids)).order(runs::id).select(runs::id);
        rows.for_update().load::<i64>(c)?;
    }
    Ok(())
}

/// What is true of a run for as long as it is locked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Locked {
    pub(crate) is_started: bool,
    /// Its request was sent more than once.
    pub(crate) sent_again: bool,
}

/// Locks runs as [`lock`] does. Returns what is true of each from then on.
pub(crate) fn lock_and_look(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashMap<i64, Locked>> {
    let columns = (runs::id, runs::started_at.is_not_null(), runs::sends);
    let rows = runs::table.filter(runs::id.eq_any(ids)).order(runs::id).select(columns);
    let rows: Vec<(i64, bool, i32)> = match conn {
        DbConnection::Postgres(c) => rows.for_update().load(c)?,
        DbConnection::Sqlite(c) => rows.load(c)?,
    };
    let locked = |(id, is_started, sends)| (id, Locked { is_started, sent_again: sends > 1 });
    Ok(rows.into_iter().map(locked).collect())
}

/// The registry and the deliverer said that they hold the results of these runs. Those that all hold who need them are
/// let go of, as [`forget_held`] does. What is noted already is not written again.
pub(crate) fn hold(conn: &mut DbConnection, by_registry: &[i64], by_deliverer: &[i64]) -> QueryResult<()> {
    let ids = [by_registry, by_deliverer].concat();
    if ids.is_empty() {
        return Ok(());
    }
    let columns = (runs::id, runs::registry_held, runs::deliverer_held);
    let ended = runs::table.filter(runs::id.eq_any(&ids)).filter(runs::ended_at.is_not_null());
    let ended = ended.order(runs::id).select(columns);
    let known: Vec<(i64, bool, bool)> = match conn {
        DbConnection::Postgres(c) => ended.for_update().load(c)?,
        DbConnection::Sqlite(c) => ended.load(c)?,
    };
    let by_registry: HashSet<&i64> = by_registry.iter().collect();
    let by_deliverer: HashSet<&i64> = by_deliverer.iter().collect();
    let (mut all, mut registry_alone, mut deliverer_alone) = (Vec::new(), Vec::new(), Vec::new());
    for (id, registry, deliverer) in known {
        match (registry || by_registry.contains(&id), deliverer || by_deliverer.contains(&id)) {
            held if held == (registry, deliverer) => {}
            (true, true) => all.push(id),
            (true, false) => registry_alone.push(id),
            (false, _) => deliverer_alone.push(id),
        }
    }
    if !registry_alone.is_empty() {
        let runs = diesel::update(runs::table.filter(runs::id.eq_any(&registry_alone)));
        runs.set(runs::registry_held.eq(true)).execute(conn)?;
    }
    if !deliverer_alone.is_empty() {
        let runs = diesel::update(runs::table.filter(runs::id.eq_any(&deliverer_alone)));
        runs.set(runs::deliverer_held.eq(true)).execute(conn)?;
    }
    if !all.is_empty() {
        let runs = diesel::update(runs::table.filter(runs::id.eq_any(&all)));
        let not_announced = runs::check_at.eq(None::<Timestamp>);
        runs.set((runs::registry_held.eq(true), runs::deliverer_held.eq(true), not_announced)).execute(conn)?;
    }
    forget_bodies(conn, &all)
}

/// Lets go of those among these runs that all hold who need them: nothing of them is announced again, and their bytes
/// are forgotten unless a follower still waits for the output.
pub(crate) fn forget_held(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    lock(conn, ids)?;
    let held = runs::registry_held.eq(true).and(runs::deliverer_held.eq(true));
    let done: Vec<i64> = per_backend!(conn, c => diesel::update(runs::table.filter(runs::id.eq_any(ids)).filter(held))
            .set(runs::check_at.eq(None::<Timestamp>))
            .returning(runs::id)
            .load(c))?;
    forget_bodies(conn, &done)
}

fn forget_bodies(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<()> {
    if !ids.is_empty() {
        let waited_for = arrivals::table.select(arrivals::previous_run_id);
        let forgotten = run_bodies::table.filter(run_bodies::run_id.eq_any(ids));
        diesel::delete(forgotten.filter(run_bodies::run_id.ne_all(waited_for))).execute(conn)?;
    }
    Ok(())
}

/// Those of these runs that have not ended.
pub(crate) fn not_ended(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<RunRow>> {
    let rows = runs::table.filter(runs::id.eq_any(ids)).filter(runs::ended_at.is_null()).order(runs::id);
    rows.select(Row::as_select()).load(conn)?.into_iter().map(RunRow::try_from).collect()
}

/// A run with its bytes, those of its request and of its answer.
pub(crate) type WithBodies = (RunRow, RunRequest, Option<RunAnswer>);

/// These runs, as far as they are not forgotten, in pieces of which the bytes can be had in memory at once.
pub(crate) fn in_pieces(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<Vec<i64>>> {
    let bytes = sql::<BigInt>("CAST(octet_length(request) + COALESCE(octet_length(answer), 0) AS BIGINT)");
    let bodies = run_bodies::table.filter(run_bodies::run_id.eq_any(ids)).order(run_bodies::run_id);
    let sizes: Vec<(i64, i64)> = bodies.select((run_bodies::run_id, bytes)).load(conn)?;
    Ok(pieces(sizes.into_iter().map(|(id, bytes)| (id, usize::try_from(bytes).unwrap_or_default()))))
}

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
        .filter(not(exists(run_bodies::table.filter(run_bodies::run_id.eq(runs::id)))))
        .limit(limit)
        .select(runs::id)
        .load(conn)?;
    diesel::delete(runs::table.filter(runs::id.eq_any(&old))).execute(conn)
}
