//! Tenants.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schema::organisations;

/// The zone of crontabs that name none; `None` if there is no such organisation.
pub(crate) fn timezone(conn: &mut DbConnection, key: &str) -> QueryResult<Option<Tz>> {
    let name: Option<String> = organisations::table.find(key).select(organisations::timezone).first(conn).optional()?;
    Ok(name.map(|name| name.parse().unwrap_or(Tz::UTC)))
}

/// Makes the organisation unless it is there. Returns whether it is new.
pub(crate) fn ensure(conn: &mut DbConnection, key: &str, now: DateTime<Utc>) -> QueryResult<bool> {
    let row = (
        organisations::key.eq(key),
        organisations::timezone.eq(Tz::UTC.name()),
        organisations::created_at.eq(Timestamp::from(now)),
    );
    let inserted = per_backend!(conn, c => diesel::insert_into(organisations::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}
