//! The last turn that each organisation was given.

use std::collections::BTreeSet;

use diesel::prelude::*;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use crate::fairness::Turns;
use crate::schema::{runs, turns};
use crate::store::stage::Stage;

/// Locks the turns of these organisations, in key order so that two dispatchers never wait for each other.
pub(crate) fn lock(conn: &mut DbConnection, organisations: &BTreeSet<&str>) -> QueryResult<Turns> {
    let mine = turns::table.filter(turns::organisation.eq_any(organisations)).order(turns::organisation);
    let last: Vec<(String, i64)> = match conn {
        DbConnection::Postgres(c) => mine.for_update().load(c)?,
        DbConnection::Sqlite(c) => mine.load(c)?,
    };
    Ok(Turns::new(served(conn)?, last.into_iter().collect()))
}

/// The turn that is served now: that of the run that waits longest, or the newest of all when none waits.
pub(super) fn served(conn: &mut DbConnection) -> QueryResult<i64> {
    let waiting: Option<i64> = runs::table
        .filter(runs::stage.eq(Stage::Queued.literal()))
        .order((runs::turn, runs::id))
        .select(runs::turn)
        .first(conn)
        .optional()?;
    if let Some(turn) = waiting {
        return Ok(turn);
    }
    let newest: Option<i64> =
        turns::table.order(turns::last_turn.desc()).select(turns::last_turn).first(conn).optional()?;
    Ok(newest.unwrap_or_default())
}

/// Stores what was given out.
pub(crate) fn put(conn: &mut DbConnection, given: Turns) -> QueryResult<()> {
    let mut last: Vec<(String, i64)> = given.into_last().into_iter().collect();
    last.sort();
    for (organisation, turn) in &last {
        per_backend!(conn, c => diesel::insert_into(turns::table)
            .values((turns::organisation.eq(organisation), turns::last_turn.eq(turn)))
            .on_conflict(turns::organisation)
            .do_update()
            .set(turns::last_turn.eq(turn))
            .execute(c))?;
    }
    Ok(())
}
