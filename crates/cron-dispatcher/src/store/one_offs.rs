//! One-offs that are done without a run: no run's record tells the registry, which turns them off and says so with its
//! document.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use model::id::AgentId;
use model::run::ScheduleRecord;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::ROWS_MAX;
use crate::schema::{finished_one_offs, schedules};

#[derive(Insertable)]
#[diesel(table_name = finished_one_offs, treat_none_as_default_value = false)]
struct Row {
    agent_id: i64,
    timing_version: i64,
    tell_at: Timestamp,
}

/// Notes those of these schedules that are finished; the registry is told again at `tell_at`, unless it knows by then.
pub(crate) fn finish(conn: &mut DbConnection, stand: &[ScheduleRecord], tell_at: DateTime<Utc>) -> QueryResult<()> {
    let row = |one: &ScheduleRecord| {
        let timing_version = one.finished_timing_version?;
        Some(Row { agent_id: one.agent_id.0, timing_version, tell_at: Timestamp::from(tell_at) })
    };
    let rows: Vec<Row> = stand.iter().filter_map(row).collect();
    for piece in rows.chunks(ROWS_MAX) {
        per_backend!(conn, c => diesel::insert_into(finished_one_offs::table)
            .values(piece)
            .on_conflict(finished_one_offs::agent_id)
            .do_update()
            .set((
                finished_one_offs::timing_version.eq(excluded(finished_one_offs::timing_version)),
                finished_one_offs::tell_at.eq(excluded(finished_one_offs::tell_at)),
            ))
            .execute(c))?;
    }
    Ok(())
}

/// The registry has turned it off, or it begins anew, or it is gone.
pub(crate) fn forget(conn: &mut DbConnection, agent_id: i64) -> QueryResult<()> {
    diesel::delete(finished_one_offs::table.find(agent_id)).execute(conn)?;
    Ok(())
}

/// Whether the registry is to be told of any by now.
pub(crate) fn any_untold(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let untold = finished_one_offs::table.filter(finished_one_offs::tell_at.le(Timestamp::from(now)));
    diesel::select(diesel::dsl::exists(untold)).get_result(conn)
}

/// Up to `limit` of which the registry is to be told by now. They are put off until `next`; what is not so any more, as
/// after an edit that a dispatcher took which does not know of this table, is forgotten.
pub(crate) fn take_untold(
    conn: &mut DbConnection,
    now: DateTime<Utc>,
    next: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<ScheduleRecord>> {
    let still = schedules::agent_id
        .eq(finished_one_offs::agent_id)
        .and(schedules::timing_version.eq(finished_one_offs::timing_version))
        .and(schedules::finished);
    let mut rows: Vec<(i64, i64, Option<i64>)> = finished_one_offs::table
        .left_join(schedules::table.on(still))
        .filter(finished_one_offs::tell_at.le(Timestamp::from(now)))
        .order((finished_one_offs::tell_at, finished_one_offs::agent_id))
        .limit(limit)
        .select((finished_one_offs::agent_id, finished_one_offs::timing_version, schedules::agent_id.nullable()))
        .load(conn)?;
    // In key order, so that two dispatchers never wait for each other.
    rows.sort_unstable();
    let mut untold = Vec::with_capacity(rows.len());
    for (agent_id, timing_version, still) in rows {
        if still.is_none() {
            forget(conn, agent_id)?;
            continue;
        }
        diesel::update(finished_one_offs::table.find(agent_id))
            .set(finished_one_offs::tell_at.eq(Timestamp::from(next)))
            .execute(conn)?;
        untold.push((agent_id, timing_version));
    }
    let record = |(agent_id, timing_version)| ScheduleRecord {
        agent_id: AgentId(agent_id),
        next_fire_time: None,
        finished_timing_version: Some(timing_version),
    };
    Ok(untold.into_iter().map(record).collect())
}
