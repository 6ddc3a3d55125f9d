//! API keys, by the hash of each.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schema::api_keys;

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys, treat_none_as_default_value = false)]
pub(crate) struct ApiKeyRow {
    pub(crate) organisation: String,
    pub(crate) name: String,
    pub(crate) username: String,
    pub(crate) key_hash: Vec<u8>,
    pub(crate) read_only: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Stores a key. Returns false, storing nothing, if the organisation has one of that name.
pub(crate) fn insert(conn: &mut DbConnection, row: &ApiKeyRow) -> QueryResult<bool> {
    let inserted = per_backend!(conn, c => diesel::insert_into(api_keys::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// The key with this hash.
pub(crate) fn find(conn: &mut DbConnection, hash: &[u8]) -> QueryResult<Option<ApiKeyRow>> {
    api_keys::table.filter(api_keys::key_hash.eq(hash)).select(ApiKeyRow::as_select()).first(conn).optional()
}

/// How many keys the organisation has.
pub(crate) fn count(conn: &mut DbConnection, organisation: &str) -> QueryResult<i64> {
    api_keys::table.filter(api_keys::organisation.eq(organisation)).count().get_result(conn)
}

/// The organisation's keys, by name.
pub(crate) fn all(conn: &mut DbConnection, organisation: &str) -> QueryResult<Vec<ApiKeyRow>> {
    api_keys::table
        .filter(api_keys::organisation.eq(organisation))
        .order(api_keys::name)
        .select(ApiKeyRow::as_select())
        .load(conn)
}

/// Removes a key of the organisation. Returns whether there was one.
pub(crate) fn delete(conn: &mut DbConnection, organisation: &str, name: &str) -> QueryResult<bool> {
    Ok(diesel::delete(api_keys::table.find((organisation, name))).execute(conn)? == 1)
}

/// Removes every key of the organisation.
pub(crate) fn delete_all(conn: &mut DbConnection, organisation: &str) -> QueryResult<usize> {
    diesel::delete(api_keys::table.filter(api_keys::organisation.eq(organisation))).execute(conn)
}
