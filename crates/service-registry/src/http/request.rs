//! What comes before an endpoint's own work: who is asking, for what, and what the body says.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use serde_json::Value;
use service_kit::auth::AuthError;
use service_kit::error::ApiError;
use service_kit::http::read_body;
use uuid::Uuid;

use crate::State;
use crate::access::{self, Owner};
use crate::refusal::{Fault, Refusal};

/// More than the largest service, with every character of it escaped.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Who is asking, or why they are turned away: found out before the handler.
#[derive(Clone)]
struct Recognised(Result<Owner, Refusal>);

/// Finds out who is asking, around every route.
pub(super) async fn recognise(
    state: web::Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let owner = access::authenticate(&state.tokens, request.headers(), state.clock.now()).await;
    request.extensions_mut().insert(Recognised(owner));
    next.call(request).await
}

/// Lets the request in, or says why not.
pub(super) fn admit(_: &State, request: &HttpRequest) -> Result<Owner, Refusal> {
    let recognised = request.extensions().get::<Recognised>().cloned();
    recognised.map_or_else(|| Err(AuthError::NotProvided.into()), |recognised| recognised.0)
}

/// An id in the path.
pub(super) fn id(request: &HttpRequest, name: &str) -> Result<Uuid, Refusal> {
    let text = request.match_info().get(name).unwrap_or_default();
    Uuid::parse_str(text).map_err(|_| {
        let msg = "Input should be a valid UUID".to_owned();
        Refusal::Invalid(vec![Fault { loc: vec!["path".into(), name.into()], msg, kind: "uuid_parsing" }])
    })
}

/// The request's JSON body, whatever the content type says: `curl -d` calls everything a form.
pub(super) async fn read_json(state: &State, request: &HttpRequest, payload: web::Payload) -> Result<Value, Refusal> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        return Err(ApiError::body_too_large().into());
    }
    let body = read_body(&state.clock, request, payload).await?;
    if body.len() > BODY_BYTES_MAX {
        return Err(ApiError::body_too_large().into());
    }
    if body.is_empty() {
        return Err(Refusal::body("missing", "Field required"));
    }
    serde_json::from_slice(&body).map_err(|error| Refusal::body("json_invalid", format!("JSON decode error: {error}")))
}
