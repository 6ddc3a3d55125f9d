//! What comes before an endpoint's own work: does the client take JSON, may it act here, what does it ask for.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use serde::Deserialize;
use service_kit::auth::AuthError;
use service_kit::error::ApiError;

use crate::access::{self, Acting, Known};
use crate::state::State;
use crate::validation::query::Query;

/// The organisation and user that every path of the API begins with.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub(super) org: String,
    pub(super) user_id: String,
}

/// The organisation that other paths name.
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

/// Who is asking, or why they are turned away: found out before the handler, which decides what they may do.
#[derive(Clone)]
struct Recognised(Result<Known, ApiError>);

/// Finds out who is asking. Around every door but the open one.
pub(super) async fn recognise(
    state: web::Data<State>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let known = access::recognise(&state, request.headers()).await;
    if let Err(refusal) = &known {
        tracing::info!(status = refusal.status().as_u16(), "a caller was turned away");
    }
    request.extensions_mut().insert(Recognised(known));
    next.call(request).await
}

/// Lets the request in, or says why not: 406, 401, 403, in the order of the original.
pub(super) fn admit(_: &State, request: &HttpRequest) -> Result<Acting, ApiError> {
    let known = known(request)?;
    let place = web::Path::<Place>::extract(request).into_inner().map_err(|_| ApiError::not_found())?;
    known.enter(request.method(), &place.org, Some(&place.user_id))
}

/// The organisation that the path names.
pub(super) fn organisation(request: &HttpRequest) -> Result<String, ApiError> {
    let place = web::Path::<OrganisationPlace>::extract(request).into_inner().map_err(|_| ApiError::not_found())?;
    Ok(place.into_inner().org)
}

/// Lets in who wants to know which methods there are: as to read.
pub(super) fn admit_to_ask(request: &HttpRequest) -> Result<(), ApiError> {
    let known = known(request)?;
    let variables = request.match_info();
    if variables.get("org").is_none() {
        return Ok(());
    }
    let organisation = organisation(request)?;
    let user = web::Path::<Place>::extract(request).into_inner().ok().map(|place| place.into_inner().user_id);
    known.enter(&Method::OPTIONS, &organisation, user.as_deref()).map(|_| ())
}

/// As [`admit`], where the path names no user: into this organisation.
pub(super) fn admit_to(request: &HttpRequest, organisation: &str) -> Result<Acting, ApiError> {
    known(request)?.enter(request.method(), organisation, None)
}

/// Who is asking, before it is decided what they may do.
pub(super) fn known(request: &HttpRequest) -> Result<Known, ApiError> {
    if !accepts_json(request.headers()) {
        return Err(ApiError::not_acceptable());
    }
    // No name holds NUL, and PostgreSQL would not even look for one.
    if request.uri().path().contains("%00") {
        return Err(ApiError::not_found());
    }
    let recognised = request.extensions().get::<Recognised>().cloned();
    recognised.map_or_else(|| Err(AuthError::NotProvided.into()), |recognised| recognised.0)
}

/// The request's query.
pub(super) fn query(request: &HttpRequest) -> Query {
    Query::parse(request.query_string())
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
    use serde_json::json;

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
