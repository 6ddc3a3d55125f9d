//! Walks along schedules, in key order: two dispatchers that lock as they walk never wait for each other.

use std::collections::BTreeSet;

use diesel::prelude::*;
use service_kit::database::DbConnection;

use super::{Row, Schedule};
use crate::schema::schedules;

/// Up to `limit` schedules of agents after this one, in key order.
pub(crate) fn page(conn: &mut DbConnection, after: i64, limit: i64) -> QueryResult<Vec<Schedule>> {
    let page = schedules::table.filter(schedules::agent_id.gt(after)).order(schedules::agent_id).limit(limit);
    let rows: Vec<Row> = page.select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Schedule::try_from).collect()
}

/// Locks the schedules of these agents and those that follow them, all in one key order so that two dispatchers never wait
/// for each other. Returns their organisations.
///
/// For whoever goes on to lock turns, or other schedules: what is locked once is had until the end of the transaction.
pub(crate) fn lock_with_followers(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<BTreeSet<String>> {
    // A write transaction is alone on SQLite.
    let DbConnection::Postgres(c) = conn else { return Ok(BTreeSet::new()) };
    let follow = schedules::follows.assume_not_null().eq_any(agent_ids);
    let organisations: Vec<String> = schedules::table
        .filter(schedules::agent_id.eq_any(agent_ids).or(follow))
        .order(schedules::agent_id)
        .select(schedules::organisation)
        .for_update()
        .load(c)?;
    Ok(organisations.into_iter().collect())
}

/// Locks the schedules that follow any of these agents, in key order so that two dispatchers never wait for each other.
pub(crate) fn lock_followers(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Vec<Schedule>> {
    let followers = schedules::table.filter(schedules::follows.eq_any(agent_ids)).order(schedules::agent_id);
    let rows: Vec<Row> = match conn {
        DbConnection::Postgres(c) => followers.for_update().load(c)?,
        DbConnection::Sqlite(c) => followers.load(c)?,
    };
    rows.into_iter().map(Schedule::try_from).collect()
}

/// The agents of an organisation in the `limit` places after this one, in key order, and the last of these places. Those
/// that share that place are all among them.
pub(crate) fn of_organisation(
    conn: &mut DbConnection,
    organisation: &str,
    after: i64,
    limit: i64,
) -> QueryResult<Option<(Vec<i64>, i64)>> {
    let own = schedules::table.filter(schedules::organisation.eq(organisation).and(schedules::place.gt(after)));
    let places: Vec<i64> = own.order(schedules::place).limit(limit).select(schedules::place).load(conn)?;
    let Some(last) = places.last().copied() else { return Ok(None) };
    let agents = own.filter(schedules::place.le(last)).order(schedules::agent_id).select(schedules::agent_id);
    Ok(Some((agents.load(conn)?, last)))
}

/// Up to `limit` schedules that were planned with an older edition of the time zone database, in key order.
pub(crate) fn of_older_tzdb(conn: &mut DbConnection, tzdb: &str, limit: i64) -> QueryResult<Vec<Schedule>> {
    let older = schedules::table.filter(schedules::tzdb.lt(tzdb)).order(schedules::agent_id).limit(limit);
    let rows: Vec<Row> = older.select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Schedule::try_from).collect()
}
