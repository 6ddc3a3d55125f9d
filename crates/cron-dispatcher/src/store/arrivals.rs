//! Arrivals: which run of its previous agent a follower will take.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use model::id::RunId;
use model::run::RunAnswer;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use super::read_wire;
use crate::schema::{arrivals, run_bodies};

/// Notes an arrival. The newest replaces an older one that no fire has taken: returns the run of that one.
pub(crate) fn put(conn: &mut DbConnection, agent_id: i64, previous_run_id: RunId) -> QueryResult<Option<i64>> {
    let older = arrivals::table.find(agent_id).select(arrivals::previous_run_id).first(conn).optional()?;
    per_backend!(conn, c => diesel::insert_into(arrivals::table)
        .values((arrivals::agent_id.eq(agent_id), arrivals::previous_run_id.eq(previous_run_id.0)))
        .on_conflict(arrivals::agent_id)
        .do_update()
        .set(arrivals::previous_run_id.eq(previous_run_id.0))
        .execute(c))?;
    Ok(older)
}

/// Whether an arrival waits to be taken.
pub(crate) fn is_waiting(conn: &mut DbConnection, agent_id: i64) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(arrivals::table.find(agent_id))).get_result(conn)
}

/// The arrivals of these agents: the previous run by agent, and the bytes of its answer.
pub(crate) fn of(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<HashMap<i64, (RunId, usize)>> {
    if agent_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let waiting: Vec<(i64, i64, i64)> = arrivals::table
        .left_join(run_bodies::table)
        .filter(arrivals::agent_id.eq_any(agent_ids))
        .select((
            arrivals::agent_id,
            arrivals::previous_run_id,
            sql::<BigInt>("CAST(COALESCE(octet_length(run_bodies.answer), 0) AS BIGINT)"),
        ))
        .load(conn)?;
    let arrived = |(agent_id, run_id, bytes)| (agent_id, (RunId(run_id), usize::try_from(bytes).unwrap_or_default()));
    Ok(waiting.into_iter().map(arrived).collect())
}

/// What these runs put out; nothing if nothing is kept of it.
pub(crate) fn outputs(conn: &mut DbConnection, runs: &[RunId]) -> QueryResult<HashMap<RunId, String>> {
    if runs.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<i64> = runs.iter().map(|run| run.0).collect();
    let answers: Vec<(i64, Option<Vec<u8>>)> = run_bodies::table
        .filter(run_bodies::run_id.eq_any(ids))
        .select((run_bodies::run_id, run_bodies::answer))
        .load(conn)?;
    let mut outputs: HashMap<RunId, String> = runs.iter().map(|run| (*run, String::new())).collect();
    for (run_id, answer) in answers {
        let answer: Option<RunAnswer> = answer.map(|bytes| read_wire(&bytes)).transpose()?;
        outputs.insert(RunId(run_id), answer.map(|answer| answer.result.output).unwrap_or_default());
    }
    Ok(outputs)
}

/// The arrivals of these agents are taken: they are gone.
pub(crate) fn take(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<()> {
    if !agent_ids.is_empty() {
        diesel::delete(arrivals::table.filter(arrivals::agent_id.eq_any(agent_ids))).execute(conn)?;
    }
    Ok(())
}

/// Forgets the arrival at an agent. Returns the run that it was of.
pub(crate) fn drop_of(conn: &mut DbConnection, agent_id: i64) -> QueryResult<Option<i64>> {
    let run_id = arrivals::table.find(agent_id).select(arrivals::previous_run_id).first(conn).optional()?;
    diesel::delete(arrivals::table.find(agent_id)).execute(conn)?;
    Ok(run_id)
}
