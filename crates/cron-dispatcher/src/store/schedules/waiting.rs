//! Schedules whose ticks wait: for the end of a pause, or of a run.

use diesel::prelude::*;
use model::document::{CatchUp, OverlapPolicy};
use model::run::SkipReason;
use service_kit::database::DbConnection;

use super::{Of, lock_followers};
use crate::schema::schedules;
use crate::store::literal::Literal;

/// A pause has ended: what waited for that is due now, to be settled as `choice` says. Where another pause goes on, it
/// waits again.
pub(crate) fn resume(conn: &mut DbConnection, of: Of<'_>, choice: Option<CatchUp>) -> QueryResult<usize> {
    let paused = schedules::waits_for.eq(Some(SkipReason::Paused.as_str()));
    let due = (
        schedules::next_fire_at.eq(schedules::waits_since),
        schedules::nominal_at.eq(schedules::waits_since),
        schedules::resumed_with.eq(choice.map(CatchUp::as_str)),
    );
    match of {
        Of::Everything => diesel::update(schedules::table.filter(paused)).set(due).execute(conn),
        Of::Organisation(key) => {
            diesel::update(schedules::table.filter(paused).filter(schedules::organisation.eq(key)))
                .set(due)
                .execute(conn)
        }
        Of::Agent(id) => {
            diesel::update(schedules::table.filter(paused).filter(schedules::agent_id.eq(id))).set(due).execute(conn)
        }
    }
}

/// Locks the schedules that runs of these agents concern, as whoever fires does: their own, if the next tick may wait for
/// a run to end, then those of agents that follow them; each in key order. Returns the agents of the former.
///
/// For whoever is about to change runs: schedules are locked first.
pub(crate) fn lock_concerned(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<i64>> {
    let queueing = schedules::table
        .filter(schedules::agent_id.eq_any(agent_ids))
        .filter(schedules::overlap.eq(Literal(OverlapPolicy::QueueOne.as_str())))
        .order(schedules::agent_id)
        .select(schedules::agent_id);
    let queueing = match conn {
        DbConnection::Postgres(c) => queueing.for_update().load(c)?,
        DbConnection::Sqlite(c) => queueing.load(c)?,
    };
    lock_followers(conn, agent_ids)?;
    Ok(queueing)
}

/// Runs of these agents have ended: the ticks that waited for it are due now.
pub(crate) fn end_overlap(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<()> {
    if agent_ids.is_empty() {
        return Ok(());
    }
    diesel::update(schedules::table)
        .filter(schedules::agent_id.eq_any(agent_ids))
        .filter(schedules::waits_for.eq(Some(SkipReason::Overlap.as_str())))
        .set((schedules::next_fire_at.eq(schedules::waits_since), schedules::nominal_at.eq(schedules::waits_since)))
        .execute(conn)?;
    Ok(())
}
