//! Replays of many deliveries: jobs that go through them in the order of their ids, a little at a time.
//!
//! Each step is one transaction, which also writes how far the job has come: after a crash it goes on there.

use diesel::dsl::max;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::drain::make_due;
use crate::schema::{deliveries, replays};
use crate::words::Status;

/// What is replayed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) organisation: String,
    /// None: of every agent.
    pub(crate) agent_id: Option<i64>,
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
}

/// A job.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = replays)]
pub(crate) struct Replay {
    pub(crate) id: i64,
    pub(crate) organisation: String,
    pub(crate) agent_id: Option<i64>,
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
    pub(crate) total: i64,
    pub(crate) up_to: i64,
    pub(crate) position: i64,
    pub(crate) replayed: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) finished_at: Option<Timestamp>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = replays, treat_none_as_default_value = false)]
struct NewReplay<'a> {
    organisation: &'a str,
    agent_id: Option<i64>,
    status: Status,
    since: Timestamp,
    total: i64,
    up_to: i64,
    position: i64,
    replayed: i64,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// The deliveries that a job is about, of those after `position`.
macro_rules! of_job {
    ($organisation:expr, $agent_id:expr, $status:expr, $since:expr, $position:expr) => {{
        let query = deliveries::table
            .filter(deliveries::organisation.eq($organisation.to_owned()))
            .filter(deliveries::status.eq($status))
            .filter(deliveries::to_alert_url.eq(false))
            .filter(deliveries::created_at.ge($since))
            .filter(deliveries::id.gt($position))
            .into_boxed::<service_kit::database::MultiBackend>();
        match $agent_id {
            Some(agent_id) => query.filter(deliveries::agent_id.eq(agent_id)),
            None => query,
        }
    }};
}

/// Makes a job of what is there now.
pub(crate) fn create(connection: &mut DbConnection, wanted: &Wanted, now: Timestamp) -> QueryResult<Replay> {
    let Wanted { organisation, agent_id, status, since } = wanted;
    let total: i64 = of_job!(organisation, *agent_id, *status, *since, 0).count().get_result(connection)?;
    let up_to: Option<i64> = deliveries::table.select(max(deliveries::id)).first(connection)?;
    let row = NewReplay {
        organisation,
        agent_id: *agent_id,
        status: *status,
        since: *since,
        total,
        up_to: up_to.unwrap_or(0),
        position: 0,
        replayed: 0,
        created_at: now,
        finished_at: (total == 0).then_some(now),
    };
    per_backend!(connection, c => diesel::insert_into(replays::table)
        .values(&row)
        .returning(Replay::as_returning())
        .get_result(c))
}

/// One job, whoever's it is.
pub(crate) fn find(connection: &mut DbConnection, id: i64) -> QueryResult<Option<Replay>> {
    replays::table.find(id).select(Replay::as_select()).first(connection).optional()
}

/// Replays the next deliveries of the oldest unfinished job, at most `limit`; how many, or none if there is no job that
/// nobody else is at.
pub(crate) fn step(connection: &mut DbConnection, limit: i64, now: Timestamp) -> QueryResult<Option<usize>> {
    let Some(job) = lock_next(connection)? else { return Ok(None) };
    let next: Vec<i64> = of_job!(job.organisation, job.agent_id, job.status, job.since, job.position)
        .filter(deliveries::id.le(job.up_to))
        .order(deliveries::id)
        .limit(limit)
        .select(deliveries::id)
        .load(connection)?;
    let replayed = make_due(connection, &next, &[job.status], now)?;
    let finished = (next.len() as i64) < limit;
    diesel::update(replays::table.find(job.id))
        .set((
            replays::position.eq(next.last().copied().unwrap_or(job.position)),
            replays::replayed.eq(job.replayed + i64::try_from(replayed).unwrap_or(0)),
            replays::finished_at.eq(finished.then_some(now)),
        ))
        .execute(connection)?;
    Ok(Some(replayed))
}

fn lock_next(connection: &mut DbConnection) -> QueryResult<Option<Replay>> {
    let next = replays::table.filter(replays::finished_at.is_null()).order(replays::id).limit(1);
    match connection {
        DbConnection::Postgres(connection) => {
            next.select(Replay::as_select()).for_update().skip_locked().first(connection).optional()
        }
        DbConnection::Sqlite(connection) => next.select(Replay::as_select()).first(connection).optional(),
    }
}
