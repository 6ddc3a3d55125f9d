//! Services.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Json, MultiBackend, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::Window;
use super::schema::{service_connections, services};
use crate::access::Owner;

/// A service as it is stored.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = services, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct ServiceRow {
    pub(crate) id: Uid,
    pub(crate) organisation: String,
    pub(crate) username: String,
    pub(crate) agent: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) protocol_digest: String,
    pub(crate) model_digest: String,
    pub(crate) model_name: String,
    /// `[Field]`.
    pub(crate) fields: Json,
    pub(crate) task_type: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) search_text: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What lists show of a service.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = services)]
pub(crate) struct SummaryRow {
    pub(crate) id: Uid,
    pub(crate) agent: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What a list is narrowed to; absent filters nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServiceFilter {
    pub(crate) group: Option<Uuid>,
    pub(crate) task_type: Option<&'static str>,
    pub(crate) agent: Option<String>,
    /// Each must be found in name or description.
    pub(crate) search: Vec<String>,
}

/// Inserts a service.
pub(crate) fn insert(conn: &mut DbConnection, row: &ServiceRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::insert_into(services::table).values(row).execute(c)).map(|_| ())
}

/// Writes every column of a service.
pub(crate) fn update(conn: &mut DbConnection, row: &ServiceRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::update(services::table.find(row.id)).set(row).execute(c)).map(|_| ())
}

/// One service of the owner.
pub(crate) fn find(conn: &mut DbConnection, owner: &Owner, id: Uuid) -> QueryResult<Option<ServiceRow>> {
    services::table
        .find(Uid::from(id))
        .filter(services::organisation.eq(&owner.organisation))
        .filter(services::username.eq(&owner.username))
        .select(ServiceRow::as_select())
        .first(conn)
        .optional()
}

/// One service of the owner, kept from other writers until the transaction ends.
pub(crate) fn find_for_update(conn: &mut DbConnection, owner: &Owner, id: Uuid) -> QueryResult<Option<ServiceRow>> {
    match conn {
        DbConnection::Postgres(c) => services::table
            .find(Uid::from(id))
            .filter(services::organisation.eq(&owner.organisation))
            .filter(services::username.eq(&owner.username))
            .select(ServiceRow::as_select())
            .for_no_key_update()
            .first(c)
            .optional(),
        // A write transaction is alone on SQLite.
        sqlite @ DbConnection::Sqlite(_) => find(sqlite, owner, id),
    }
}

/// Deletes a service of the owner, with its connections. Returns whether it was there.
pub(crate) fn delete(conn: &mut DbConnection, owner: &Owner, id: Uuid) -> QueryResult<bool> {
    let own = services::table
        .find(Uid::from(id))
        .filter(services::organisation.eq(&owner.organisation))
        .filter(services::username.eq(&owner.username));
    diesel::delete(own).execute(conn).map(|deleted| deleted == 1)
}

/// How many services the owner has.
pub(crate) fn count(conn: &mut DbConnection, owner: &Owner) -> QueryResult<i64> {
    services::table
        .filter(services::organisation.eq(&owner.organisation))
        .filter(services::username.eq(&owner.username))
        .count()
        .get_result(conn)
}

/// The owner's services that match, the newest first.
pub(crate) fn list(
    conn: &mut DbConnection,
    owner: &Owner,
    filter: ServiceFilter,
    window: Window,
) -> QueryResult<Vec<SummaryRow>> {
    let mut query = services::table
        .select(SummaryRow::as_select())
        .filter(services::organisation.eq(&owner.organisation))
        .filter(services::username.eq(&owner.username))
        .into_boxed::<MultiBackend>();
    if let Some(group) = filter.group {
        let connected = service_connections::table
            .filter(service_connections::group_id.eq(Uid::from(group)))
            .filter(service_connections::service_id.eq(services::id));
        query = query.filter(diesel::dsl::exists(connected));
    }
    if let Some(task_type) = filter.task_type {
        query = query.filter(services::task_type.eq(task_type));
    }
    if let Some(agent) = filter.agent {
        query = query.filter(services::agent.eq(agent));
    }
    for term in filter.search {
        query = query.filter(services::search_text.like(containing(&term.to_lowercase())).escape('\\'));
    }
    query.order((services::created_at.desc(), services::id.desc())).limit(window.limit).offset(window.offset).load(conn)
}

/// A pattern for `LIKE` that finds `term` anywhere, with `\` as its escape.
fn containing(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 2);
    pattern.push('%');
    for char in term.chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}
