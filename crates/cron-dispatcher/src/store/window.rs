//! The window: which runs enter it, and which wait for a limit.
//!
//! One dispatcher at a time moves runs in or out, so that none counts a place twice and none lets in what another has
//! just paused. A run that a limit keeps out leaves the queue for a place under that limit, so that a backlog that may
//! not go on costs the walk along the queue nothing.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::dsl::{AsExprOf, case_when, exists};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::literal::Literal;
use super::stage::{Stage, stands_in};
use super::{everything, limits, stamp, turns};
use crate::schema::runs;

/// The advisory lock of the window.
const LOCK: i64 = 7_262_745;

/// Walks along the queue in one transaction: what is left then comes in the next.
const WALKS_MAX: u32 = 5;

/// One dispatcher at a time, until the end of the transaction.
pub(crate) fn lock(conn: &mut DbConnection) -> QueryResult<()> {
    if let DbConnection::Postgres(c) = conn {
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(c)?;
    }
    Ok(())
}

/// Whether new runs of these scopes may enter the window in the transaction that makes them: there are places for all,
/// nobody is before them, and nothing keeps any of them out. True: the window is locked until the transaction's end.
///
/// Does not wait for the lock. Whoever has it may wait for schedules, which whoever makes runs has locked.
pub(crate) fn is_open(
    conn: &mut DbConnection,
    size: i64,
    scopes: impl Fn() -> Vec<String>,
    count: usize,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    // Asked before as well: else whoever makes runs would keep others from a window that is closed to it.
    if is_closed_to_all(conn, now)? || !try_lock(conn)? || is_closed_to_all(conn, now)? {
        return Ok(false);
    }
    let is_limited = limits::any(conn)? && !limits::load(conn, &distinct(scopes()))?.is_empty();
    Ok(!is_limited && in_window(conn)? + i64::try_from(count).unwrap_or(i64::MAX) <= size)
}

/// Whether somebody is before any new run, or everything is paused.
fn is_closed_to_all(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    Ok(any(conn, now)? || everything::is_paused(conn)?)
}

fn try_lock(conn: &mut DbConnection) -> QueryResult<bool> {
    let DbConnection::Postgres(c) = conn else { return Ok(true) };
    let attempt = diesel::dsl::sql::<Bool>("SELECT pg_try_advisory_xact_lock(").bind::<BigInt, _>(LOCK).sql(")");
    attempt.get_result(c)
}

/// What entered the window.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// Runs, in turn.
    pub(crate) ids: Vec<i64>,
    /// There may be more that can enter now.
    pub(crate) more: bool,
}

/// Whether anything may be there to enter the window.
pub(crate) fn any(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let (queued, waiting) = (in_stage(Stage::Queued), in_stage(Stage::Waiting));
    diesel::select(exists(queued).or(exists(waiting)).or(exists(delayed(now)))).get_result(conn)
}

/// Whether a limit keeps any run waiting.
pub(crate) fn any_waiting(conn: &mut DbConnection) -> QueryResult<bool> {
    diesel::select(exists(in_stage(Stage::Waiting))).get_result(conn)
}

#[diesel::dsl::auto_type(no_type_alias)]
fn in_stage(stage: Stage) -> _ {
    let stage: Literal = stage.literal();
    runs::table.filter(runs::stage.eq(stage))
}

#[diesel::dsl::auto_type(no_type_alias)]
fn delayed(now: DateTime<Utc>) -> _ {
    let now: Timestamp = Timestamp::from(now);
    let stage: Literal = Stage::Delayed.literal();
    runs::table.filter(runs::check_at.le(now).and(runs::stage.eq(stage)))
}

/// Moves queued runs, in turn, into the window of `window` places; each is overdue at `check_at`.
pub(crate) fn enter(
    conn: &mut DbConnection,
    window: i64,
    now: DateTime<Utc>,
    check_at: DateTime<Utc>,
) -> QueryResult<Entered> {
    lock(conn)?;
    // Before anything comes back into the queue with the turn that it had when it was made.
    let served = turns::served(conn)?;
    queue_delayed(conn, now, served)?;
    let mut room = window - in_window(conn)?;
    let mut entered = Entered::default();
    if room <= 0 || everything::is_paused(conn)? {
        return Ok(entered);
    }
    let limited = limits::any(conn)?;
    for _ in 0..WALKS_MAX {
        release(conn, room, served)?;
        let candidates = next(conn, room)?;
        let whole = i64::try_from(candidates.len()).unwrap_or(i64::MAX) == room;
        let looked_at = candidates.len();
        let admitted = if limited { admit(conn, candidates)? } else { candidates.iter().map(|one| one.id).collect() };
        room -= i64::try_from(admitted.len()).unwrap_or(room);
        let kept_out = admitted.len() < looked_at;
        entered.ids.extend(set_requested(conn, admitted, check_at)?);
        // Whom a limit kept out may have left a wider one's place to another.
        entered.more = (whole || kept_out) && room > 0;
        if !entered.more {
            break;
        }
    }
    Ok(entered)
}

/// Puts runs back into the queue whose time has come.
fn queue_delayed(conn: &mut DbConnection, now: DateTime<Utc>, served: i64) -> QueryResult<()> {
    if let DbConnection::Postgres(c) = conn {
        // In key order, as whoever takes answers: one that was taken back may be answered yet.
        let ids: Vec<i64> = delayed(now).order(runs::id).select(runs::id).for_update().load(c)?;
        if ids.is_empty() {
            return Ok(());
        }
    }
    let queued = (runs::stage.eq(Stage::Queued.as_str()), runs::check_at.eq(None::<Timestamp>));
    diesel::update(delayed(now)).set((queued, runs::turn.eq(no_earlier_than(served)))).execute(conn)?;
    Ok(())
}

fn in_window(conn: &mut DbConnection) -> QueryResult<i64> {
    runs::table.filter(runs::stage.eq(Stage::Requested.literal())).count().get_result(conn)
}

#[derive(Debug, Queryable)]
struct Candidate {
    id: i64,
    organisation: String,
    mentor_id: i64,
    agent_id: i64,
}

impl Candidate {
    fn scopes(&self) -> [String; 3] {
        limits::scopes(&self.organisation, self.mentor_id, self.agent_id)
    }
}

fn next(conn: &mut DbConnection, room: i64) -> QueryResult<Vec<Candidate>> {
    runs::table
        .filter(runs::stage.eq(Stage::Queued.literal()))
        .order((runs::turn, runs::id))
        .limit(room)
        .select((runs::id, runs::organisation, runs::mentor_id, runs::agent_id))
        .load(conn)
}

/// Returns those that are requested now, in the same order: what was cancelled since it was looked at is queued no more.
fn set_requested(conn: &mut DbConnection, mut ids: Vec<i64>, check_at: DateTime<Utc>) -> QueryResult<Vec<i64>> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let requested = (
        runs::stage.eq(Stage::Requested.as_str()),
        runs::sends.eq(1),
        runs::check_at.eq(stamp(Some(check_at))),
        runs::let_go_at.eq(None::<Timestamp>),
    );
    let still = runs::table.filter(runs::id.eq_any(&ids).and(stands_in(Stage::Queued)));
    let set: HashSet<i64> = per_backend!(conn, c => diesel::update(still)
        .set(requested)
        .returning(runs::id)
        .get_results(c))?
    .into_iter()
    .collect();
    ids.retain(|id| set.contains(id));
    Ok(ids)
}

/// Takes those that no limit keeps out; each other one goes to wait for the first limit that does.
fn admit(conn: &mut DbConnection, candidates: Vec<Candidate>) -> QueryResult<Vec<i64>> {
    let scopes: Vec<String> = candidates.iter().flat_map(Candidate::scopes).collect();
    let mut free = free(conn, distinct(scopes))?;
    let mut admitted = Vec::with_capacity(candidates.len());
    let mut kept_out: HashMap<String, Vec<i64>> = HashMap::new();
    for candidate in candidates {
        let scopes = candidate.scopes();
        match scopes.iter().find(|scope| free.get(*scope).is_some_and(|places| *places <= 0)) {
            Some(full) => kept_out.entry(full.clone()).or_default().push(candidate.id),
            None => {
                for scope in &scopes {
                    free.entry(scope.clone()).and_modify(|places| *places -= 1);
                }
                admitted.push(candidate.id);
            }
        }
    }
    let all: Vec<i64> = kept_out.values().flatten().copied().collect();
    if !all.is_empty() {
        super::runs::lock(conn, &all)?;
    }
    for (scope, ids) in kept_out {
        let waiting = (runs::stage.eq(Stage::Waiting.as_str()), runs::waits_for.eq(Some(scope)));
        let still = runs::id.eq_any(ids).and(stands_in(Stage::Queued));
        diesel::update(runs::table.filter(still)).set(waiting).execute(conn)?;
    }
    Ok(admitted)
}

fn distinct(mut scopes: Vec<String>) -> Vec<String> {
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// The free places under those of these scopes that are limited.
fn free(conn: &mut DbConnection, scopes: Vec<String>) -> QueryResult<HashMap<String, i64>> {
    let mut free = limits::load(conn, &scopes)?;
    let organisations =
        distinct(free.keys().filter(|scope| free[*scope] > 0).map(|s| limits::organisation(s).to_owned()).collect());
    if organisations.is_empty() {
        return Ok(free);
    }
    for stage in Stage::IN_FLIGHT {
        let in_flight: Vec<(String, i64, i64, i64)> = runs::table
            .filter(runs::organisation.eq_any(&organisations).and(runs::stage.eq(stage.literal())))
            .group_by((runs::organisation, runs::mentor_id, runs::agent_id))
            .select((runs::organisation, runs::mentor_id, runs::agent_id, diesel::dsl::count_star()))
            .load(conn)?;
        for (organisation, mentor_id, agent_id, count) in in_flight {
            let candidate = Candidate { id: 0, organisation, mentor_id, agent_id };
            for scope in candidate.scopes() {
                free.entry(scope).and_modify(|places| *places = places.saturating_sub(count));
            }
        }
    }
    Ok(free)
}

#[derive(QueryableByName)]
struct Scope {
    #[diesel(sql_type = Text)]
    scope: String,
}

/// A run's turn, or the one that is served: what was away from the queue for hours is neither behind nor ahead of the
/// others, and what they were given since is no backlog of theirs.
#[diesel::dsl::auto_type(no_type_alias)]
fn no_earlier_than(served: i64) -> _ {
    let turn: AsExprOf<i64, BigInt> = served.into_sql::<BigInt>();
    case_when(runs::turn.lt(served), turn).otherwise(runs::turn)
}

/// Puts runs back into the queue whose limit has places again, in turn and as many as there are places.
fn release(conn: &mut DbConnection, room: i64, served: i64) -> QueryResult<()> {
    // One step along the index for each scope, however many runs wait under it.
    const SCOPES: &str = "
        WITH RECURSIVE scopes (scope) AS (
            SELECT min(waits_for) FROM runs WHERE stage = 'waiting'
            UNION ALL
            SELECT (SELECT min(waits_for) FROM runs WHERE stage = 'waiting' AND waits_for > scopes.scope)
              FROM scopes WHERE scopes.scope IS NOT NULL)
        SELECT scope FROM scopes WHERE scope IS NOT NULL";
    let scopes: Vec<Scope> = per_backend!(conn, c => diesel::sql_query(SCOPES).load(c))?;
    if scopes.is_empty() {
        return Ok(());
    }
    let scopes: Vec<String> = scopes.into_iter().map(|row| row.scope).collect();
    let free = free(conn, scopes.clone())?;
    for scope in scopes {
        let places = free.get(&scope).copied().unwrap_or(room).min(room);
        if places <= 0 {
            continue;
        }
        let first: Vec<i64> = runs::table
            .filter(runs::stage.eq(Stage::Waiting.literal()).and(runs::waits_for.eq(Some(&scope))))
            .order((runs::turn, runs::id))
            .limit(places)
            .select(runs::id)
            .load(conn)?;
        super::runs::lock(conn, &first)?;
        let queued = (runs::stage.eq(Stage::Queued.as_str()), runs::waits_for.eq(None::<String>));
        let still = runs::id.eq_any(first).and(stands_in(Stage::Waiting));
        let again = (queued, runs::turn.eq(no_earlier_than(served)));
        diesel::update(runs::table.filter(still)).set(again).execute(conn)?;
    }
    Ok(())
}

/// The runs of an organisation that were requested and have not started.
pub(crate) fn requested_of(conn: &mut DbConnection, organisation: &str) -> QueryResult<Vec<i64>> {
    let requested = runs::stage.eq(Stage::Requested.literal()).and(runs::organisation.eq(organisation));
    runs::table.filter(requested).order(runs::id).select(runs::id).load(conn)
}

/// Whether limits keep so many runs of an organisation waiting, or more: its own, a mentor's or an agent's.
pub(crate) fn waits_at_least(conn: &mut DbConnection, organisation: &str, count: i64) -> QueryResult<bool> {
    let waiting = runs::table
        .filter(runs::stage.eq(Stage::Waiting.literal()).and(runs::organisation.eq(organisation)))
        .select(runs::id)
        .limit(1)
        .offset(count - 1);
    Ok(waiting.first::<i64>(conn).optional()?.is_some())
}
