//! How agents' callbacks fare: columns of the agents' activity.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::Bool;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::activity;
use super::schema::agent_activity;
use crate::callback_states::NotWell;

pub(super) const OK: &str = "ok";

/// Makes these the agents whose callbacks do not fare well; all others do.
pub(crate) fn replace(conn: &mut DbConnection, not_well: &BTreeMap<i64, NotWell>) -> QueryResult<()> {
    let shown: Vec<(i64, String, Option<Timestamp>)> = agent_activity::table
        // As the index of those says it.
        .filter(diesel::dsl::sql::<Bool>("callback_state <> 'ok'"))
        .select((agent_activity::agent_id, agent_activity::callback_state, agent_activity::failing_since))
        .load(conn)?;
    activity::lock(conn, shown.iter().map(|row| row.0).chain(not_well.keys().copied()).collect())?;
    let well: Vec<i64> = shown.iter().map(|row| row.0).filter(|id| !not_well.contains_key(id)).collect();
    diesel::update(agent_activity::table.filter(agent_activity::agent_id.eq_any(well)))
        .set((agent_activity::callback_state.eq(OK), agent_activity::failing_since.eq(None::<Timestamp>)))
        .execute(conn)?;
    for (agent_id, state) in not_well {
        let wanted = (*agent_id, state.callback_state.clone(), state.failing_since.map(Timestamp::from));
        if shown.contains(&wanted) {
            continue;
        }
        diesel::update(agent_activity::table.find(agent_id))
            .set((agent_activity::callback_state.eq(wanted.1), agent_activity::failing_since.eq(wanted.2)))
            .execute(conn)?;
    }
    Ok(())
}

/// Notes that the audit log is told of a warning: endpoints that fail since then, and so much of the time has passed.
/// Returns the organisation; none if it was told of this one or of a later one, or if there is no such agent.
///
/// A compare-and-set: of two replicas that saw the same, one notes it, and what one saw long ago is passed over.
pub(crate) fn note_warning(
    conn: &mut DbConnection,
    agent_id: i64,
    since: Timestamp,
    percent: i32,
) -> QueryResult<Option<String>> {
    let earlier = agent_activity::callbacks_warned_since
        .is_null()
        .or(agent_activity::callbacks_warned_since.lt(Some(since)))
        .or(agent_activity::callbacks_warned_since
            .eq(Some(since))
            .and(agent_activity::callbacks_warned_percent.lt(percent)));
    per_backend!(conn, c => diesel::update(agent_activity::table.find(agent_id))
        .filter(earlier)
        .set((
            agent_activity::callbacks_warned_since.eq(Some(since)),
            agent_activity::callbacks_warned_percent.eq(percent),
        ))
        .returning(agent_activity::organisation)
        .get_result(c)
        .optional())
}
