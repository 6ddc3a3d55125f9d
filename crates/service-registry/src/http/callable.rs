//! `POST /internal/services`: which services may a run call?
//!
//! Only other microservices reach it, and they say in whose name they ask by the run's own session token: what a run may
//! not see, its runner does not see either.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use model::service::{CallableService, CallableServices, CallableServicesRequest, ServiceField};
use model::wire::Wire;
use service_kit::error::{ApiError, chain};

use crate::State;
use crate::access::Owner;
use crate::store::callable::{self, CallableRow};
use crate::validation::service::Field;

/// The most services that a run is offered; models lose their way among more.
const SERVICES_MAX: i64 = 64;

/// The most bytes of text that a run is offered, its services together: models read all of it at every turn.
const OFFERED_BYTES_MAX: usize = 256 * 1024;

/// The longest description, of a service or a field, that every provider takes.
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// The routes, to be mounted under `/internal`.
pub(crate) fn routes(config: &mut web::ServiceConfig, state: &Arc<State>) {
    config.app_data(web::Data::from(Arc::clone(state))).route("/services", web::post().to(list_callable));
}

async fn list_callable(state: web::Data<State>, body: web::Bytes) -> Result<HttpResponse, ApiError> {
    let CallableServicesRequest { session_token, groups } = CallableServicesRequest::decode(&body)
        .map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, chain(&error)))?;
    let run = state
        .sessions
        .verify(&session_token, state.clock.now())
        .inspect_err(|error| tracing::warn!(reason = %error, "a run that looks for services was turned away"))?;
    let owner = Owner::of_organisation(&run.organisation, run.username);
    let published = state.config.published_groups.clone();
    let rows =
        state.db.read(move |conn| Ok::<_, ApiError>(callable::list(conn, &owner, &groups, &published, SERVICES_MAX)?));
    let mut services = rows.await?.into_iter().map(callable_of).collect::<Result<Vec<_>, _>>()?;
    // One that is too large takes no other with it.
    let mut room = OFFERED_BYTES_MAX;
    services.retain(|service| {
        let left = room.checked_sub(bytes_of(service));
        room = left.unwrap_or(room);
        left.is_some()
    });
    Ok(HttpResponse::Ok().content_type("application/x-protobuf").body(CallableServices { services }.encode()))
}

fn callable_of(row: CallableRow) -> Result<CallableService, ApiError> {
    let fields: Vec<Field> = serde_json::from_value(row.fields.into()).map_err(|error| ApiError::internal(&error))?;
    let field = |field: Field| ServiceField {
        name: field.name,
        required: field.required,
        field_type: field.field_type,
        description: shortened(field.description),
    };
    Ok(CallableService {
        id: row.id.into(),
        name: row.name,
        description: shortened(row.description),
        fields: fields.into_iter().map(field).collect(),
        endpoint: row.endpoint.unwrap_or_default(),
    })
}

/// As much of a description as is shown.
fn shortened(mut description: String) -> String {
    if let Some((end, _)) = description.char_indices().nth(DESCRIPTION_CHARS_MAX) {
        description.truncate(end);
    }
    description
}

/// The text of a service.
fn bytes_of(service: &CallableService) -> usize {
    let field = |field: &ServiceField| field.name.len() + field.field_type.len() + field.description.len();
    let fields: usize = service.fields.iter().map(field).sum();
    service.name.len() + service.description.len() + service.endpoint.len() + fields
}
