//! Tenants.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::Window;
use super::schema::organisations;

/// An organisation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = organisations, primary_key(key), treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct OrganisationRow {
    pub(crate) key: String,
    pub(crate) timezone: String,
    pub(crate) paused: bool,
    pub(crate) paused_note: String,
    pub(crate) resumed_with: Option<String>,
    pub(crate) default_provider: String,
    pub(crate) agents_max: Option<i32>,
    pub(crate) runs_in_flight_max: Option<i32>,
    pub(crate) callbacks_in_flight_max: Option<i32>,
    pub(crate) requests_per_minute: Option<i32>,
    pub(crate) logs_days: Option<i32>,
    pub(crate) ticks_days: Option<i32>,
    pub(crate) deliveries_days: Option<i32>,
    pub(crate) alert_url: String,
    pub(crate) sealed_alert_secret: Option<Vec<u8>>,
    pub(crate) erasing_since: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
}

impl OrganisationRow {
    /// The zone of crontabs that name none.
    pub(crate) fn zone(&self) -> Tz {
        self.timezone.parse().unwrap_or(Tz::UTC)
    }

    /// As it is before anybody said anything of it.
    pub(crate) fn blank(key: &str, now: DateTime<Utc>) -> Self {
        Self {
            key: key.to_owned(),
            timezone: Tz::UTC.name().to_owned(),
            paused: false,
            paused_note: String::new(),
            resumed_with: None,
            default_provider: String::new(),
            agents_max: None,
            runs_in_flight_max: None,
            callbacks_in_flight_max: None,
            requests_per_minute: None,
            logs_days: None,
            ticks_days: None,
            deliveries_days: None,
            alert_url: String::new(),
            sealed_alert_secret: None,
            erasing_since: None,
            created_at: now.into(),
        }
    }
}

/// The zone of crontabs that name none; `None` if there is no such organisation.
pub(crate) fn timezone(conn: &mut DbConnection, key: &str) -> QueryResult<Option<Tz>> {
    let name: Option<String> = organisations::table.find(key).select(organisations::timezone).first(conn).optional()?;
    Ok(name.map(|name| name.parse().unwrap_or(Tz::UTC)))
}

/// One organisation.
pub(crate) fn find(conn: &mut DbConnection, key: &str) -> QueryResult<Option<OrganisationRow>> {
    organisations::table.find(key).select(OrganisationRow::as_select()).first(conn).optional()
}

/// One organisation, kept from other writers until the transaction ends.
pub(crate) fn find_for_update(conn: &mut DbConnection, key: &str) -> QueryResult<Option<OrganisationRow>> {
    match conn {
        DbConnection::Postgres(c) => {
            organisations::table.find(key).select(OrganisationRow::as_select()).for_no_key_update().first(c).optional()
        }
        // A write transaction is alone on SQLite.
        sqlite @ DbConnection::Sqlite(_) => find(sqlite, key),
    }
}

/// How many requests a minute it may make; `None` without a limit.
pub(crate) fn requests_per_minute(conn: &mut DbConnection, key: &str) -> QueryResult<Option<i32>> {
    let found: Option<Option<i32>> =
        organisations::table.find(key).select(organisations::requests_per_minute).first(conn).optional()?;
    Ok(found.flatten())
}

/// Makes the organisation unless it is there. Returns whether it is new.
pub(crate) fn ensure(conn: &mut DbConnection, key: &str, now: DateTime<Utc>) -> QueryResult<bool> {
    let row = OrganisationRow::blank(key, now);
    let inserted = per_backend!(conn, c => diesel::insert_into(organisations::table)
        .values(&row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// Writes every column of an organisation.
pub(crate) fn update(conn: &mut DbConnection, row: &OrganisationRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::update(organisations::table.find(&row.key)).set(row).execute(c)).map(|_| ())
}

/// How many organisations there are.
pub(crate) fn count(conn: &mut DbConnection) -> QueryResult<i64> {
    organisations::table.count().get_result(conn)
}

/// A page of all organisations, by key.
pub(crate) fn page(conn: &mut DbConnection, window: Window) -> QueryResult<Vec<OrganisationRow>> {
    organisations::table
        .order(organisations::key)
        .limit(window.limit)
        .offset(window.offset)
        .select(OrganisationRow::as_select())
        .load(conn)
}

/// How long each organisation wants its logs kept, by key; the next ones after `after`.
pub(crate) fn log_days(conn: &mut DbConnection, after: &str, limit: i64) -> QueryResult<Vec<(String, Option<i32>)>> {
    organisations::table
        .filter(organisations::key.gt(after))
        .order(organisations::key)
        .limit(limit)
        .select((organisations::key, organisations::logs_days))
        .load(conn)
}

/// An organisation that is being erased.
pub(crate) fn any_erasing(conn: &mut DbConnection) -> QueryResult<Option<String>> {
    organisations::table
        .filter(organisations::erasing_since.is_not_null())
        .select(organisations::key)
        .first(conn)
        .optional()
}

/// Removes an organisation that nothing belongs to any more.
pub(crate) fn delete(conn: &mut DbConnection, key: &str) -> QueryResult<()> {
    diesel::delete(organisations::table.find(key)).execute(conn).map(|_| ())
}
