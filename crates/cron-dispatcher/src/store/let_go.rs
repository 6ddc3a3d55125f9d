//! Runs that are taken back before they start, and which runs runners are to let go of.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::id::RunId;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schedules::Of;
use super::stage::{Stage, stands_in};
use super::{stamp, window};
use crate::schema::runs;

/// Takes runs that were requested and have not started back into the queue at `now`, not to be requested again before
/// `again`. Returns which.
pub(crate) fn take_back(
    conn: &mut DbConnection,
    of: Of<'_>,
    now: DateTime<Utc>,
    again: DateTime<Utc>,
) -> QueryResult<Vec<i64>> {
    window::lock(conn)?;
    // In no order: SQLite would look for them in that of all runs.
    let requested = runs::table.filter(runs::stage.eq(Stage::Requested.literal())).select(runs::id);
    let ids: Vec<i64> = match of {
        Of::Everything => requested.load(conn)?,
        Of::Organisation(key) => requested.filter(runs::organisation.eq(key)).load(conn)?,
        Of::Agent(id) => requested.filter(runs::agent_id.eq(id)).load(conn)?,
    };
    let delayed = (
        runs::stage.eq(Stage::Delayed.as_str()),
        runs::sends.eq(0),
        runs::check_at.eq(stamp(Some(again))),
        runs::let_go_at.eq(stamp(Some(now))),
    );
    super::runs::lock(conn, &ids)?;
    // One that starts or ends meanwhile is left alone.
    let still = runs::table.filter(runs::id.eq_any(&ids)).filter(stands_in(Stage::Requested));
    per_backend!(conn, c => diesel::update(still).set(delayed).returning(runs::id).get_results(c))
}

/// Notes that runners are told to let go of these.
pub(crate) fn note(conn: &mut DbConnection, ids: &[i64], now: DateTime<Utc>) -> QueryResult<()> {
    diesel::update(runs::table.filter(runs::id.eq_any(ids))).set(runs::let_go_at.eq(stamp(Some(now)))).execute(conn)?;
    Ok(())
}

/// Runs that a runner may still have, or find at the broker, although runners were told to let go of them.
#[derive(Debug)]
pub(crate) struct LetGo {
    pub(crate) ended: Vec<RunId>,
    /// These may be requested anew: with when that was said, in this order.
    pub(crate) unfinished: Vec<(DateTime<Utc>, RunId)>,
}

/// Which those are; of those that ended, only what was said since `since`.
pub(crate) fn told(conn: &mut DbConnection, since: DateTime<Utc>) -> QueryResult<LetGo> {
    let ended = runs::table.filter(runs::let_go_at.ge(stamp(Some(since)))).filter(runs::ended_at.is_not_null());
    let ended: Vec<i64> = ended.select(runs::id).load(conn)?;
    let unfinished: Vec<(Option<Timestamp>, i64)> = runs::table
        .filter(runs::let_go_at.is_not_null())
        .filter(runs::ended_at.is_null())
        .order((runs::let_go_at, runs::id))
        .select((runs::let_go_at, runs::id))
        .load(conn)?;
    Ok(LetGo {
        ended: ended.into_iter().map(RunId).collect(),
        unfinished: unfinished.into_iter().filter_map(|(at, id)| Some((*at?, RunId(id)))).collect(),
    })
}
