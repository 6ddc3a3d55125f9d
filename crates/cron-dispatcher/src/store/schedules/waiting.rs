//! Schedules whose ticks wait: for the end of a pause, or of a run.

use diesel::prelude::*;
use model::document::{CatchUp, OverlapPolicy};
use model::run::SkipReason;
use service_kit::database::DbConnection;

use super::Of;
use crate::schema::schedules;
use crate::store::literal::Literal;

/// The agents whose ticks wait for the end of a pause, in key order.
pub(crate) fn paused_of(conn: &mut DbConnection, of: Of<'_>) -> QueryResult<Vec<i64>> {
    let paused = schedules::waits_for.eq(Some(SkipReason::Paused.as_str()));
    let paused = schedules::table.filter(paused).order(schedules::agent_id).select(schedules::agent_id);
    match of {
        Of::Everything => paused.load(conn),
        Of::Organisation(key) => paused.filter(schedules::organisation.eq(key)).load(conn),
        Of::Agent(id) => paused.filter(schedules::agent_id.eq(id)).load(conn),
    }
}

/// Locks the schedules that wait for the end of a pause, in key order. For whoever is about to end it: before what says so
/// is locked, which those keep as it is who have schedules locked.
pub(crate) fn lock_paused(conn: &mut DbConnection, of: Of<'_>) -> QueryResult<()> {
    if matches!(conn, DbConnection::Sqlite(_)) {
        return Ok(());
    }
    let paused = paused_of(conn, of)?;
    if let DbConnection::Postgres(c) = conn {
        let theirs = schedules::table.filter(schedules::agent_id.eq_any(paused)).order(schedules::agent_id);
        theirs.select(schedules::agent_id).for_update().load::<i64>(c)?;
    }
    Ok(())
}

/// A pause has ended: what waited for that is due now, to be settled as `choice` says. Where another pause goes on, it
/// waits again.
pub(crate) fn resume(conn: &mut DbConnection, of: Of<'_>, choice: Option<CatchUp>) -> QueryResult<usize> {
    // Once more, in case that others began to wait meanwhile.
    lock_paused(conn, of)?;
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
/// a run to end, and those of agents that follow them. Returns the agents of the former.
///
/// All in one key order: along a chain the one's own are the other's followers. For whoever is about to change runs:
/// schedules are locked first.
pub(crate) fn lock_concerned(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<i64>> {
    let queueing = || {
        let queue_one = schedules::overlap.eq(Literal(OverlapPolicy::QueueOne.as_str()));
        schedules::agent_id.eq_any(agent_ids).and(queue_one)
    };
    match conn {
        DbConnection::Postgres(c) => {
            let following = schedules::follows.assume_not_null().eq_any(agent_ids);
            let concerned: Vec<(i64, bool)> = schedules::table
                .filter(queueing().or(following))
                .order(schedules::agent_id)
                .select((schedules::agent_id, queueing()))
                .for_update()
                .load(c)?;
            Ok(concerned.into_iter().filter(|(_, is_queueing)| *is_queueing).map(|(id, _)| id).collect())
        }
        // Who writes is alone.
        DbConnection::Sqlite(c) => schedules::table.filter(queueing()).select(schedules::agent_id).load(c),
    }
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
