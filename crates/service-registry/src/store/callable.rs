//! Which services a run may call.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Json, Uid};
use uuid::Uuid;

use super::schema::{service_connections, service_groups, services};
use crate::access::Owner;

/// What a run is told of a service.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = services)]
pub(crate) struct CallableRow {
    pub(crate) id: Uid,
    pub(crate) name: String,
    pub(crate) description: String,
    /// `[Field]`.
    pub(crate) fields: Json,
    pub(crate) endpoint: Option<String>,
}

/// The services of `groups` that a run of `owner` may call, in the order of their names, at most `limit`: `task`s with
/// an endpoint, in groups that are the owner's own, public in the owner's organisation, or published to everyone.
pub(crate) fn list(
    conn: &mut DbConnection,
    owner: &Owner,
    groups: &[Uuid],
    published: &[Uuid],
    limit: i64,
) -> QueryResult<Vec<CallableRow>> {
    let ids = |ids: &[Uuid]| ids.iter().copied().map(Uid::from).collect::<Vec<_>>();
    let in_organisation = service_groups::organisation.eq(&owner.organisation);
    let own = in_organisation.and(service_groups::username.eq(&owner.username));
    let public =
        service_groups::is_private.eq(false).and(in_organisation.or(service_groups::id.eq_any(ids(published))));
    let in_groups = service_connections::table
        .inner_join(service_groups::table)
        .filter(service_groups::id.eq_any(ids(groups)))
        .filter(own.or(public))
        .select(service_connections::service_id);
    services::table
        .filter(services::id.eq_any(in_groups))
        .filter(services::task_type.eq("task"))
        .filter(services::endpoint.is_not_null())
        .select(CallableRow::as_select())
        .order((services::name, services::id))
        .limit(limit)
        .load(conn)
}
