//! Arrivals: which run of its previous agent a follower will take.

use std::collections::HashMap;

use diesel::prelude::*;
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

/// The arrivals of these agents: the previous run and its output by agent.
pub(crate) fn of(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<HashMap<i64, (RunId, String)>> {
    if agent_ids.is_empty() {
        return Ok(HashMap::new());
    }
    type Waiting = (i64, i64, Option<Vec<u8>>);
    let waiting: Vec<Waiting> = arrivals::table
        .left_join(run_bodies::table)
        .filter(arrivals::agent_id.eq_any(agent_ids))
        .select((arrivals::agent_id, arrivals::previous_run_id, run_bodies::answer.nullable()))
        .load(conn)?;
    let mut arrived = HashMap::with_capacity(waiting.len());
    for (agent_id, run_id, answer) in waiting {
        let answer: Option<RunAnswer> = answer.map(|bytes| read_wire(&bytes)).transpose()?;
        let output = answer.map(|answer| answer.result.output).unwrap_or_default();
        arrived.insert(agent_id, (RunId(run_id), output));
    }
    Ok(arrived)
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
