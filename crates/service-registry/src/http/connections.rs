//! Connections: which service is in which group.

use actix_web::{HttpRequest, HttpResponse, web};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use serde_json::json;
use service_kit::database::DbConnection;
use uuid::Uuid;

use super::groups::no_such_group;
use super::services::no_such_service;
use super::view::GroupView;
use super::{answer, request};
use crate::State;
use crate::access::Owner;
use crate::refusal::Refusal;
use crate::store::{connections, groups, services};
use crate::validation::connection::ConnectionInput;

/// `POST /v1beta1/services/service-sg/`: both must be the caller's; once connected, they stay so.
pub(super) async fn connect(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let ConnectionInput { service, group } =
        ConnectionInput::read(&request::read_json(&state, &request, payload).await?)?;
    let now = state.clock.now().into();
    let connected = state.db.write(move |conn| {
        check_own(conn, &owner, service, group)?;
        connections::connect(conn, service, group, now).map_err(|error| match error {
            // One of them was deleted just now.
            QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => no_such_service(),
            error => error.into(),
        })
    });
    connected.await?;
    Ok(HttpResponse::Ok().json(json!({ "service": service, "serviceGroup": group })))
}

/// `DELETE /v1beta1/services/service-sg/{service_id}/{group_id}`
pub(super) async fn disconnect(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let (service, group) = (request::id(&request, "service_id")?, request::id(&request, "group_id")?);
    let disconnected = state.db.write(move |conn| {
        check_own(conn, &owner, service, group)?;
        Ok::<_, Refusal>(connections::disconnect(conn, service, group)?)
    });
    if !disconnected.await? {
        return Err(Refusal::no_such("Connection"));
    }
    Ok(HttpResponse::Ok().json(json!({})))
}

/// `GET /v1beta1/services/{service_id}/groups`: those of the caller.
pub(super) async fn list_groups_of_service(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "service_id")?;
    let rows = state.db.read(move |conn| {
        services::find(conn, &owner, id)?.ok_or_else(no_such_service)?;
        Ok::<_, Refusal>(connections::groups_of(conn, &owner, id)?)
    });
    answer::json(&request, &rows.await?.into_iter().map(GroupView::from).collect::<Vec<_>>())
}

fn check_own(conn: &mut DbConnection, owner: &Owner, service: Uuid, group: Uuid) -> Result<(), Refusal> {
    services::find(conn, owner, service)?.ok_or_else(no_such_service)?;
    if groups::is_own(conn, owner, group)? { Ok(()) } else { Err(no_such_group()) }
}
