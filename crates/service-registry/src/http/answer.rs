//! Answers to reads: JSON with an `ETag`, or 304 to who has it already.

use actix_web::http::header::{ETag, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use service_kit::error::ApiError;
use uuid::Uuid;

use crate::refusal::Refusal;

/// The body, unless the client has this very one. The tag is a hash of the body: whatever is shown counts, the numbers
/// too, which change without an edit.
pub(super) fn json(request: &HttpRequest, body: &impl Serialize) -> Result<HttpResponse, Refusal> {
    let bytes = serde_json::to_vec(body).map_err(|error| ApiError::internal(&error))?;
    let tag = EntityTag::new_strong(Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes).simple().to_string());
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    if known {
        return Ok(HttpResponse::NotModified().insert_header(ETag(tag)).finish());
    }
    Ok(HttpResponse::Ok().insert_header(ETag(tag)).content_type("application/json").body(bytes))
}
