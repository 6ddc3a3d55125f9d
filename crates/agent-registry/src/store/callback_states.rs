//! How agents' callbacks fare: columns of the agents' activity.

use std::collections::BTreeMap;

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use super::schema::agent_activity;
use crate::callback_states::NotWell;

const OK: &str = "ok";

/// Makes these the agents whose callbacks do not fare well; all others do.
pub(crate) fn replace(conn: &mut DbConnection, not_well: &BTreeMap<i64, NotWell>) -> QueryResult<()> {
    let shown: Vec<(i64, String, Option<Timestamp>)> = agent_activity::table
        .filter(agent_activity::callback_state.ne(OK))
        .select((agent_activity::agent_id, agent_activity::callback_state, agent_activity::failing_since))
        .load(conn)?;
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
