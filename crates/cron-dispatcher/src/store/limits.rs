//! Limits: what keeps runs from the window. There is a row only where there is something to keep.

use std::collections::HashMap;
use std::num::NonZeroU32;

use diesel::prelude::*;
use model::document::Pause;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use crate::schema::limits;

/// The scope of an organisation's runs.
pub(crate) fn of_organisation(organisation: &str) -> String {
    format!("{organisation}/")
}

/// The scope of the runs of a mentor's agents.
pub(crate) fn of_mentor(organisation: &str, mentor_id: i64) -> String {
    format!("{organisation}/m{mentor_id}")
}

/// The scope of an agent's runs.
pub(crate) fn of_agent(organisation: &str, agent_id: i64) -> String {
    format!("{organisation}/a{agent_id}")
}

/// The scopes that a run is in.
pub(crate) fn scopes(organisation: &str, mentor_id: i64, agent_id: i64) -> [String; 3] {
    [of_organisation(organisation), of_mentor(organisation, mentor_id), of_agent(organisation, agent_id)]
}

/// The organisation that a scope belongs to.
pub(crate) fn organisation(scope: &str) -> &str {
    scope.rsplit_once('/').map_or(scope, |(organisation, _)| organisation)
}

/// Stores what a document says of a scope.
pub(crate) fn put(
    conn: &mut DbConnection,
    scope: &str,
    in_flight_max: Option<NonZeroU32>,
    pause: Pause,
) -> QueryResult<()> {
    if in_flight_max.is_none() && !pause.paused {
        return delete(conn, scope);
    }
    let most = in_flight_max.map(|most| i64::from(most.get()));
    let values = (limits::in_flight_max.eq(most), limits::paused.eq(pause.paused));
    per_backend!(conn, c => diesel::insert_into(limits::table)
        .values((limits::scope.eq(scope), values))
        .on_conflict(limits::scope)
        .do_update()
        .set(values)
        .execute(c))?;
    Ok(())
}

/// Forgets what a document that is gone said.
pub(crate) fn delete(conn: &mut DbConnection, scope: &str) -> QueryResult<()> {
    diesel::delete(limits::table.find(scope)).execute(conn)?;
    Ok(())
}

/// Whether anything is limited or paused.
pub(crate) fn any(conn: &mut DbConnection) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(limits::table.select(limits::scope))).get_result(conn)
}

/// Those of these scopes that are limited, and how many of their runs may be in flight.
pub(crate) fn load(conn: &mut DbConnection, scopes: &[String]) -> QueryResult<HashMap<String, i64>> {
    let mut found = HashMap::new();
    // In pieces: SQLite binds at most 32,766 values in one statement.
    for piece in scopes.chunks(10_000) {
        let rows: Vec<(String, Option<i64>, bool)> = limits::table
            .filter(limits::scope.eq_any(piece))
            .select((limits::scope, limits::in_flight_max, limits::paused))
            .load(conn)?;
        for (scope, in_flight_max, paused) in rows {
            found.insert(scope, if paused { 0 } else { in_flight_max.unwrap_or(i64::MAX) });
        }
    }
    Ok(found)
}
