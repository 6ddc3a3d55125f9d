//! Groups of services: create, list, fetch, update, delete, and what is in them.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use uuid::Uuid;

use super::view::GroupView;
use super::{answer, request};
use crate::State;
use crate::refusal::Refusal;
use crate::store::groups::{self, GroupRow};
use crate::store::{self, Window, connections};
use crate::validation::group::GroupInput;
use crate::validation::list::{self, LIMIT_MAX};

/// As many as a list of them holds.
const GROUPS_MAX: i64 = LIMIT_MAX;

/// `GET /v1beta1/service-groups/`: the caller's own.
pub(super) async fn list_groups(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let window: Window = list::read_window(request.query_string())?;
    let rows = state.db.read(move |conn| Ok::<_, Refusal>(groups::list_own(conn, &owner, window)?)).await?;
    answer::json(&request, &rows.into_iter().map(GroupView::from).collect::<Vec<_>>())
}

/// `GET /v1beta1/service-groups/public/`: those of the organisation, the caller's among them, and published ones.
pub(super) async fn list_public_groups(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let window: Window = list::read_window(request.query_string())?;
    let published = state.config.published_groups.clone();
    let rows = state.db.read(move |conn| Ok::<_, Refusal>(groups::list_public(conn, &owner, &published, window)?));
    answer::json(&request, &rows.await?.into_iter().map(GroupView::from).collect::<Vec<_>>())
}

/// `POST /v1beta1/service-groups/`
pub(super) async fn create_group(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let GroupInput { name, is_private } = GroupInput::read(&request::read_json(&state, &request, payload).await?)?;
    let now = state.clock.now().into();
    let created = state.db.write(move |conn| {
        store::lock(conn, &owner)?;
        if groups::count(conn, &owner)? >= GROUPS_MAX {
            return Err(Refusal::too_many("service groups", GROUPS_MAX));
        }
        let id = Uuid::new_v4().into();
        let (organisation, username) = (owner.organisation, owner.username);
        let row = GroupRow { id, organisation, username, name, is_private, created_at: now, updated_at: now };
        groups::insert(conn, &row)?;
        Ok(row)
    });
    let row = created.await?;
    tracing::info!(service_group.id = %*row.id, organisation = row.organisation, "a service group was created");
    Ok(HttpResponse::Ok().json(GroupView::from(row)))
}

/// `GET /v1beta1/service-groups/{group_id}/`
pub(super) async fn get_group(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "group_id")?;
    let published = state.config.published_groups.clone();
    let found =
        state.db.read(move |conn| Ok::<_, Refusal>(groups::find_visible(conn, &owner, &published, id)?)).await?;
    answer::json(&request, &GroupView::from(found.ok_or_else(no_such_group)?))
}

/// `PUT /v1beta1/service-groups/{group_id}/`
pub(super) async fn put_group(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "group_id")?;
    let GroupInput { name, is_private } = GroupInput::read(&request::read_json(&state, &request, payload).await?)?;
    let now = state.clock.now().into();
    let updated = state.db.write(move |conn| {
        if !groups::update(conn, &owner, id, (&name, is_private), now)? {
            return Err(no_such_group());
        }
        groups::find_visible(conn, &owner, &[], id)?.ok_or_else(no_such_group)
    });
    let row = updated.await?;
    tracing::info!(service_group.id = %id, organisation = row.organisation, "a service group was changed");
    Ok(HttpResponse::Ok().json(GroupView::from(row)))
}

/// `DELETE /v1beta1/service-groups/{group_id}/`: its services stay.
pub(super) async fn delete_group(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "group_id")?;
    let organisation = owner.organisation.clone();
    if !state.db.write(move |conn| Ok::<_, Refusal>(groups::delete(conn, &owner, id)?)).await? {
        return Err(no_such_group());
    }
    tracing::info!(service_group.id = %id, organisation, "a service group was deleted");
    Ok(HttpResponse::Ok().json(json!({})))
}

/// `GET /v1beta1/service-groups/{group_id}/services/`
pub(super) async fn list_services_of_group(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let (id, names) = names(&state, &request).await?;
    answer::json(&request, &json!({ "service_group": id, "services": names }))
}

/// `GET /v1beta1/function-groups/{group_id}/functions/`
pub(super) async fn list_functions_of_group(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let (id, names) = names(&state, &request).await?;
    answer::json(&request, &json!({ "function_group": id, "functions": names }))
}

/// The names of the services of a group that the caller may see.
async fn names(state: &State, request: &HttpRequest) -> Result<(Uuid, Vec<String>), Refusal> {
    let owner = request::admit(state, request)?;
    let id = request::id(request, "group_id")?;
    let published = state.config.published_groups.clone();
    let names = state.db.read(move |conn| {
        groups::find_visible(conn, &owner, &published, id)?.ok_or_else(no_such_group)?;
        Ok::<_, Refusal>(connections::names(conn, id)?)
    });
    Ok((id, names.await?))
}

/// 404 for a group that is not there, or not for the caller.
pub(super) fn no_such_group() -> Refusal {
    Refusal::no_such("Service group")
}
