//! Which service is in which group. Whether both are the caller's, callers have made sure.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::groups::GroupRow;
use super::schema::{service_connections, service_groups, services};
use crate::access::Owner;

/// Connects a service with a group; if it is connected, nothing changes.
pub(crate) fn connect(conn: &mut DbConnection, service: Uuid, group: Uuid, now: Timestamp) -> QueryResult<()> {
    let row = (
        service_connections::service_id.eq(Uid::from(service)),
        service_connections::group_id.eq(Uid::from(group)),
        service_connections::created_at.eq(now),
    );
    per_backend!(conn, c => diesel::insert_into(service_connections::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))
    .map(|_| ())
}

/// Takes a service out of a group. Returns whether it was in it.
pub(crate) fn disconnect(conn: &mut DbConnection, service: Uuid, group: Uuid) -> QueryResult<bool> {
    let pair = service_connections::table.find((Uid::from(group), Uid::from(service)));
    diesel::delete(pair).execute(conn).map(|deleted| deleted == 1)
}

/// The names of a group's services, in order.
pub(crate) fn names(conn: &mut DbConnection, group: Uuid) -> QueryResult<Vec<String>> {
    service_connections::table
        .inner_join(services::table)
        .filter(service_connections::group_id.eq(Uid::from(group)))
        .select(services::name)
        .order((services::name, services::id))
        .load(conn)
}

/// The owner's groups that a service is in, in the order of their names.
pub(crate) fn groups_of(conn: &mut DbConnection, owner: &Owner, service: Uuid) -> QueryResult<Vec<GroupRow>> {
    service_connections::table
        .inner_join(service_groups::table)
        .filter(service_connections::service_id.eq(Uid::from(service)))
        .filter(service_groups::organisation.eq(&owner.organisation))
        .filter(service_groups::username.eq(&owner.username))
        .select(GroupRow::as_select())
        .order((service_groups::name, service_groups::id))
        .load(conn)
}
