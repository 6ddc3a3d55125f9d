//! Services: register, list, fetch, update, delete.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde_json::json;
use service_kit::error::ApiError;
use uuid::Uuid;

use super::view::{ServiceView, SummaryView};
use super::{answer, request};
use crate::State;
use crate::access::Owner;
use crate::refusal::Refusal;
use crate::store::numbers::{self, Numbers};
use crate::store::services::{self, ServiceRow};
use crate::store::{self, probes};
use crate::validation::list::{self, LIMIT_MAX};
use crate::validation::service::ServiceInput;

/// As many as a list of them holds.
const SERVICES_MAX: i64 = LIMIT_MAX;

/// `GET /v1beta1/services`
pub(super) async fn list_services(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let (filter, window) = list::read_services(request.query_string())?;
    let rows = state.db.read(move |conn| Ok::<_, Refusal>(services::list(conn, &owner, filter, window)?)).await?;
    answer::json(&request, &rows.into_iter().map(SummaryView::from).collect::<Vec<_>>())
}

/// `POST /v1beta1/services`
pub(super) async fn create_service(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let input = ServiceInput::read(&request::read_json(&state, &request, payload).await?, &state.egress)?;
    let row = new_row(owner.clone(), input, state.clock.now())?;
    let created = state.db.write(move |conn| {
        store::lock(conn, &owner)?;
        if services::count(conn, &owner)? >= SERVICES_MAX {
            return Err(Refusal::too_many("services", SERVICES_MAX));
        }
        services::insert(conn, &row)?;
        probes::watch(conn, &row)?;
        Ok(row)
    });
    let row = created.await?;
    state.endpoints_changed.notify_one();
    tracing::info!(service.id = %*row.id, organisation = row.organisation, "a service was registered");
    Ok(HttpResponse::Ok().json(ServiceView::try_from((row, Numbers::default()))?))
}

/// `GET /v1beta1/services/{service_id}`
pub(super) async fn get_service(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "service_id")?;
    let now = state.clock.now();
    let found = state.db.read(move |conn| {
        let row = services::find(conn, &owner, id)?.ok_or_else(no_such_service)?;
        let numbers = numbers::of(conn, row.id, now)?;
        Ok::<_, Refusal>((row, numbers))
    });
    answer::json(&request, &ServiceView::try_from(found.await?)?)
}

/// `PUT /v1beta1/services`: the body names the service.
pub(super) async fn put_service(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let body = request::read_json(&state, &request, payload).await?;
    let (id, input) = ServiceInput::read_with_id(&body, &state.egress)?;
    let now = state.clock.now();
    let updated = state.db.write(move |conn| {
        let mut row = services::find_for_update(conn, &owner, id)?.ok_or_else(no_such_service)?;
        apply(&mut row, input, now)?;
        services::update(conn, &row)?;
        probes::watch(conn, &row)?;
        let numbers = numbers::of(conn, row.id, now)?;
        Ok::<_, Refusal>((row, numbers))
    });
    let (row, numbers) = updated.await?;
    state.endpoints_changed.notify_one();
    tracing::info!(service.id = %id, organisation = row.organisation, "a service was changed");
    Ok(HttpResponse::Ok().json(ServiceView::try_from((row, numbers))?))
}

/// `DELETE /v1beta1/services/{service_id}`
pub(super) async fn delete_service(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let owner = request::admit(&state, &request)?;
    let id = request::id(&request, "service_id")?;
    let organisation = owner.organisation.clone();
    if !state.db.write(move |conn| Ok::<_, Refusal>(services::delete(conn, &owner, id)?)).await? {
        return Err(no_such_service());
    }
    tracing::info!(service.id = %id, organisation, "a service was deleted");
    Ok(HttpResponse::Ok().json(json!({})))
}

/// 404 for a service that is not there, or not the caller's.
pub(super) fn no_such_service() -> Refusal {
    Refusal::no_such("Service")
}

fn new_row(owner: Owner, input: ServiceInput, now: DateTime<Utc>) -> Result<ServiceRow, Refusal> {
    let mut row = ServiceRow {
        id: Uuid::new_v4().into(),
        organisation: owner.organisation,
        username: owner.username,
        agent: String::new(),
        name: String::new(),
        description: String::new(),
        category: None,
        location: None,
        protocol_digest: String::new(),
        model_digest: String::new(),
        model_name: String::new(),
        fields: json!([]).into(),
        task_type: String::new(),
        endpoint: None,
        search_text: String::new(),
        created_at: now.into(),
        updated_at: now.into(),
    };
    apply(&mut row, input, now)?;
    Ok(row)
}

/// Takes over what a request says. What a client may not know of stays as it is where the request does not speak of it.
fn apply(row: &mut ServiceRow, input: ServiceInput, now: DateTime<Utc>) -> Result<(), Refusal> {
    row.search_text = format!("{}\n{}", input.name, input.description).to_lowercase();
    row.agent = input.agent;
    row.name = input.name;
    row.description = input.description;
    row.protocol_digest = input.protocol_digest;
    row.model_digest = input.model_digest;
    row.model_name = input.model_name;
    row.fields = serde_json::to_value(input.fields).map_err(|error| ApiError::internal(&error))?.into();
    row.task_type = input.task_type;
    row.category = input.category.unwrap_or_else(|| row.category.take());
    row.location = input.location.unwrap_or_else(|| row.location.take());
    row.endpoint = input.endpoint.unwrap_or_else(|| row.endpoint.take());
    row.updated_at = now.into();
    Ok(())
}
