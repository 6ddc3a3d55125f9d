//! The body of a request: JSON or a form.

use actix_multipart::Multipart;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use service_kit::error::ApiError;
use service_kit::http::read_body;
use url::form_urlencoded;

use crate::state::State;
use crate::validation::form::{self, FIELDS_MAX, Field, Shape};
use crate::validation::json;

/// What every call that takes a body takes.
pub(super) const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];

/// How the fields of a body are to be read where it is a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) shape: Shape,
    /// Whether what is absent stays as it was.
    pub(super) partial: bool,
}

impl Form {
    /// A form in which an absent checkbox means no.
    pub(super) const fn whole(shape: Shape) -> Self {
        Self { shape, partial: false }
    }
}

/// The request's body as JSON; an empty one counts as `{}`, or as an empty form.
pub(super) async fn read(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
    form: Form,
) -> Result<Value, ApiError> {
    let body = read_body(&state.clock, request, payload).await?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fields = match essence.as_str() {
        "application/x-www-form-urlencoded" => urlencoded(&body)?,
        "multipart/form-data" if body.is_empty() => Vec::new(),
        "multipart/form-data" => multipart(request, body).await?,
        _ if body.is_empty() => return Ok(json!({})),
        "application/json" | "application/scim+json" | "*/*" => {
            return json::parse(&body)
                .map_err(|message| bad_request(format!("JSON parse error - {message}")).with_code("parse_error"));
        }
        _ => return Err(ApiError::unsupported_media_type(content_type)),
    };
    Ok(form::to_json(&fields, form.shape, form.partial))
}

fn urlencoded(body: &[u8]) -> Result<Vec<(String, Field)>, ApiError> {
    let pairs = form_urlencoded::parse(body).take(FIELDS_MAX + 1);
    let fields: Vec<_> = pairs.map(|(key, value)| (key.into_owned(), Field::Text(value.into_owned()))).collect();
    if fields.len() > FIELDS_MAX { Err(too_many()) } else { Ok(fields) }
}

/// The parts of a body that is in memory already: how large it may be was checked as it came.
async fn multipart(request: &HttpRequest, body: web::Bytes) -> Result<Vec<(String, Field)>, ApiError> {
    let bad = |error: &dyn std::fmt::Display| bad_request(format!("Multipart form parse error - {error}"));
    let whole = stream::iter([Ok::<_, actix_web::error::PayloadError>(body)]);
    let mut parts = Multipart::new(request.headers(), whole);
    let mut fields = Vec::new();
    while let Some(mut part) = parts.try_next().await.map_err(|error| bad(&error))? {
        if fields.len() == FIELDS_MAX {
            return Err(too_many());
        }
        let Some(name) = part.name().map(str::to_owned) else { continue };
        let is_file = part.content_disposition().is_some_and(|disposition| disposition.get_filename().is_some());
        let mut bytes = Vec::new();
        while let Some(chunk) = part.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| bad(&error))?);
        }
        let field = if is_file { Field::File } else { Field::Text(String::from_utf8_lossy(&bytes).into_owned()) };
        fields.push((name, field));
    }
    Ok(fields)
}

fn too_many() -> ApiError {
    bad_request(format!("The form has more than {FIELDS_MAX} fields."))
}

fn bad_request(text: impl Into<String>) -> ApiError {
    ApiError::detail(StatusCode::BAD_REQUEST, text)
}
