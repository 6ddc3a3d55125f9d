//! What comes before an endpoint's own work: does the client take JSON, may it act here, what does it say.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::error::ApiError;

use crate::access::{self, Acting};
use crate::state::State;
use crate::validation::json;
use crate::validation::query::Query;

/// How long a client may take to send its body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The organisation and user that every path of the API begins with.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub(super) org: String,
    pub(super) user_id: String,
}

/// The organisation alone.
#[derive(Debug, Clone, Deserialize)]
struct OrganisationPlace {
    org: String,
}

/// One thing in that place.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Item {
    pub(super) id: String,
}

impl Item {
    /// The id; what is no integer leads nowhere, an integer that nothing can have to no such `object`.
    pub(super) fn id(&self, object: &str) -> Result<i64, ApiError> {
        let digits = self.id.strip_prefix('-').unwrap_or(&self.id);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::not_found());
        }
        self.id.parse().map_err(|_| ApiError::no_such(object))
    }
}

/// Lets the request in, or says why not: 406, 401, 403, in the order of the original.
pub(super) fn admit(state: &State, request: &HttpRequest) -> Result<Acting, ApiError> {
    if !accepts_json(request.headers()) {
        return Err(ApiError::not_acceptable());
    }
    // No name holds NUL, and PostgreSQL would not even look for one.
    if request.uri().path().contains("%00") {
        return Err(ApiError::not_found());
    }
    let place = web::Path::<Place>::extract(request).into_inner().map_err(|_| ApiError::not_found())?;
    access::admit(&state.tokens, request.headers(), &place.org, &place.user_id, state.clock.now())
}

/// As [`admit`], where the path names an organisation and no user: the organisation.
pub(super) fn admit_to_organisation(state: &State, request: &HttpRequest) -> Result<String, ApiError> {
    if !accepts_json(request.headers()) {
        return Err(ApiError::not_acceptable());
    }
    let organisation = organisation(request)?;
    access::admit_to_organisation(&state.tokens, request.headers(), &organisation, state.clock.now())?;
    Ok(organisation)
}

/// The organisation that the path names.
pub(super) fn organisation(request: &HttpRequest) -> Result<String, ApiError> {
    if request.uri().path().contains("%00") {
        return Err(ApiError::not_found());
    }
    let named = web::Path::<OrganisationPlace>::extract(request).into_inner();
    named.map(|place| place.into_inner().org).map_err(|_| ApiError::not_found())
}

/// The request's query.
pub(super) fn query(request: &HttpRequest) -> Query {
    Query::parse(request.query_string())
}

/// The request's JSON body; an empty one counts as `{}`.
pub(super) async fn read_json(state: &State, request: &HttpRequest, payload: web::Payload) -> Result<Value, ApiError> {
    let body = read_body(state, request, payload).await?;
    if body.is_empty() {
        return Ok(json!({}));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    if !is_json(content_type) {
        return Err(ApiError::unsupported_media_type(content_type));
    }
    json::parse(&body)
        .map_err(|message| ApiError::detail(StatusCode::BAD_REQUEST, format!("JSON parse error - {message}")))
}

/// The whole body, or 408: who sends slowly must not hold a part of the memory for as long as he likes.
async fn read_body(state: &State, request: &HttpRequest, payload: web::Payload) -> Result<web::Bytes, ApiError> {
    let mut payload = payload.into_inner();
    let read = tokio::select! {
        read = web::Bytes::from_request(request, &mut payload) => read,
        () = state.clock.sleep(BODY_WITHIN) => {
            return Err(ApiError::detail(StatusCode::REQUEST_TIMEOUT, "Request body took too long."));
        }
    };
    read.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(),
        _ => ApiError::detail(StatusCode::BAD_REQUEST, "The request body could not be read."),
    })
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/scim+json", "*/*"].iter().any(|json| essence.eq_ignore_ascii_case(json))
}

/// Whether some media range of `Accept` takes JSON; without the header all do.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_none() || ranges.any(range_takes_json)
}

fn range_takes_json(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let named = ["application/json", "application/*", "*/*"].iter().any(|json| essence.eq_ignore_ascii_case(json));
    let refused = parts.any(|part| {
        let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
        quality.and_then(|quality| quality.parse::<f32>().ok()) == Some(0.0)
    });
    named && !refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn json_is_taken_where_a_range_includes_it() {
        let accepts = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            accepts_json(&headers)
        };
        for accept in ["*/*", "application/json", "text/html, application/*;q=0.1", "Application/JSON; charset=utf-8"] {
            assert!(accepts(accept), "{accept}");
        }
        for accept in ["text/html", "application/xml", "application/json;q=0", "image/*"] {
            assert!(!accepts(accept), "{accept}");
        }
        assert!(accepts_json(&HeaderMap::new()));
    }

    #[test]
    fn an_id_that_is_no_integer_leads_nowhere() {
        let of =
            |id: &str| Item { id: id.to_owned() }.id("PeriodicAgent").map_err(|error| error.body()["detail"].clone());
        assert_eq!(of("7"), Ok(7));
        assert_eq!(of("x"), Err(json!("Not found.")));
        assert_eq!(of("1.5"), Err(json!("Not found.")));
        assert_eq!(of("99999999999999999999"), Err(json!("No PeriodicAgent matches the given query.")));
    }
}
