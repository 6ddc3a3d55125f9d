//! Groups of services, and who may see which.

use diesel::dsl::IntoBoxed;
use diesel::prelude::*;
use service_kit::database::{DbConnection, MultiBackend, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::Window;
use super::schema::service_groups;
use crate::access::Owner;

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = service_groups)]
pub(crate) struct GroupRow {
    pub(crate) id: Uid,
    pub(crate) organisation: String,
    pub(crate) username: String,
    pub(crate) name: String,
    pub(crate) is_private: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

type Groups = IntoBoxed<'static, service_groups::table, MultiBackend>;

/// The owner's own.
fn own(owner: &Owner) -> Groups {
    service_groups::table
        .filter(service_groups::organisation.eq(owner.organisation.clone()))
        .filter(service_groups::username.eq(owner.username.clone()))
        .into_boxed()
}

/// The public ones of the organisation, and those that are published to everyone.
fn public(organisation: &str, published: &[Uuid]) -> Groups {
    let published: Vec<Uid> = published.iter().copied().map(Uid::from).collect();
    let shown = service_groups::organisation.eq(organisation.to_owned()).or(service_groups::id.eq_any(published));
    service_groups::table.filter(service_groups::is_private.eq(false)).filter(shown).into_boxed()
}

/// Inserts a group.
pub(crate) fn insert(conn: &mut DbConnection, row: &GroupRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::insert_into(service_groups::table).values(row).execute(c)).map(|_| ())
}

/// Sets name and visibility of a group of the owner. Returns whether it is there.
pub(crate) fn update(
    conn: &mut DbConnection,
    owner: &Owner,
    id: Uuid,
    (name, is_private): (&str, bool),
    now: Timestamp,
) -> QueryResult<bool> {
    let group = service_groups::table
        .find(Uid::from(id))
        .filter(service_groups::organisation.eq(&owner.organisation))
        .filter(service_groups::username.eq(&owner.username));
    let set =
        (service_groups::name.eq(name), service_groups::is_private.eq(is_private), service_groups::updated_at.eq(now));
    diesel::update(group).set(set).execute(conn).map(|updated| updated == 1)
}

/// Deletes a group of the owner, with its connections. Returns whether it was there.
pub(crate) fn delete(conn: &mut DbConnection, owner: &Owner, id: Uuid) -> QueryResult<bool> {
    let group = service_groups::table
        .find(Uid::from(id))
        .filter(service_groups::organisation.eq(&owner.organisation))
        .filter(service_groups::username.eq(&owner.username));
    diesel::delete(group).execute(conn).map(|deleted| deleted == 1)
}

/// Whether there is this group, and it is the owner's.
pub(crate) fn is_own(conn: &mut DbConnection, owner: &Owner, id: Uuid) -> QueryResult<bool> {
    let found: Option<Uid> =
        own(owner).filter(service_groups::id.eq(Uid::from(id))).select(service_groups::id).first(conn).optional()?;
    Ok(found.is_some())
}

/// A group that the owner may see: an own one or a public one.
pub(crate) fn find_visible(
    conn: &mut DbConnection,
    owner: &Owner,
    published: &[Uuid],
    id: Uuid,
) -> QueryResult<Option<GroupRow>> {
    for groups in [own(owner), public(&owner.organisation, published)] {
        let found = groups.filter(service_groups::id.eq(Uid::from(id))).select(GroupRow::as_select()).first(conn);
        if let Some(group) = found.optional()? {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

/// How many groups the owner has.
pub(crate) fn count(conn: &mut DbConnection, owner: &Owner) -> QueryResult<i64> {
    own(owner).count().get_result(conn)
}

/// The owner's groups, the newest first.
pub(crate) fn list_own(conn: &mut DbConnection, owner: &Owner, window: Window) -> QueryResult<Vec<GroupRow>> {
    list(conn, own(owner), window)
}

/// The public groups that the owner may see, the newest first; own ones are among them.
pub(crate) fn list_public(
    conn: &mut DbConnection,
    owner: &Owner,
    published: &[Uuid],
    window: Window,
) -> QueryResult<Vec<GroupRow>> {
    list(conn, public(&owner.organisation, published), window)
}

fn list(conn: &mut DbConnection, groups: Groups, window: Window) -> QueryResult<Vec<GroupRow>> {
    groups
        .select(GroupRow::as_select())
        .order((service_groups::created_at.desc(), service_groups::id.desc()))
        .limit(window.limit)
        .offset(window.offset)
        .load(conn)
}
