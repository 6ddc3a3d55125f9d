//! Users that runs may not act as any more, as the organisations' documents say: a row for each, to be asked quickly.

use std::collections::{BTreeSet, HashSet};

use diesel::prelude::*;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use crate::schema::revoked_users;

/// Stores who they are in an organisation, in the place of who they were.
pub(crate) fn put(conn: &mut DbConnection, organisation: &str, usernames: &BTreeSet<String>) -> QueryResult<()> {
    diesel::delete(revoked_users::table.filter(revoked_users::organisation.eq(organisation))).execute(conn)?;
    let row = |username| (revoked_users::organisation.eq(organisation), revoked_users::username.eq(username));
    let rows: Vec<_> = usernames.iter().map(row).collect();
    // In pieces: SQLite binds at most 32,766 values in one statement.
    for piece in rows.chunks(10_000) {
        per_backend!(conn, c => diesel::insert_into(revoked_users::table).values(piece).execute(c))?;
    }
    Ok(())
}

/// Whether there are any.
pub(crate) fn any(conn: &mut DbConnection) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(revoked_users::table.select(revoked_users::organisation))).get_result(conn)
}

/// Those of these organisations.
pub(crate) fn of(conn: &mut DbConnection, organisations: &BTreeSet<&str>) -> QueryResult<HashSet<(String, String)>> {
    let rows: Vec<(String, String)> =
        revoked_users::table.filter(revoked_users::organisation.eq_any(organisations)).load(conn)?;
    Ok(rows.into_iter().collect())
}
