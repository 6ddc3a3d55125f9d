//! Around every request: its id and trace, one line in the log, two metrics, and JSON for every failure.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use tracing::Instrument;
use uuid::Uuid;

use super::REQUEST_ID;
use crate::error::ApiError;
use crate::traces::Place;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Asked for every few seconds by machines: only for those who look closely.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What a request brings along for everything done on its behalf. An extractor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// The caller's `X-Request-Id`, or a new one; it is answered in the same header.
    pub request_id: String,
    /// The caller's W3C trace context, if it is well-formed.
    pub traceparent: Option<String>,
}

impl RequestContext {
    fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text(&REQUEST_ID).filter(|id| is_request_id(id)).map(str::to_owned);
        let traceparent = text(&TRACEPARENT).filter(|value| Place::parse(value).is_some()).map(str::to_owned);
        Self { request_id: request_id.unwrap_or_else(|| Uuid::new_v4().to_string()), traceparent }
    }

    /// The trace that this request is part of, as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.traceparent.as_deref().and_then(Place::parse).map(Place::trace_id)
    }
}

impl FromRequest for RequestContext {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let seen = request.extensions().get::<Self>().cloned();
        std::future::ready(Ok(seen.unwrap_or_else(|| Self::from_headers(request.headers()))))
    }
}

/// The middleware of every server.
pub(super) async fn observe<B: MessageBody + 'static>(
    server: &'static str,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let context = RequestContext::from_headers(request.headers());
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let span = tracing::info_span!("request", request_id = context.request_id, trace_id = context.trace_id());
    let request_id = HeaderValue::from_str(&context.request_id);
    request.extensions_mut().insert(context);

    let outcome = next.call(request).instrument(span.clone()).await;
    let mut outcome = outcome.map(|response| in_json(response, &method));
    if let (Ok(response), Ok(request_id)) = (&mut outcome, request_id) {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    let (status, route) = match &outcome {
        Ok(response) => (response.status(), response.request().match_pattern()),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    // Paths hold names, so metrics go by the route's pattern, and never by what a stranger typed.
    let route = route.unwrap_or_else(|| "unknown".to_owned());
    record(server, &method, route, status, started);
    let duration_ms = started.elapsed().as_millis();
    let _entered = span.enter();
    // Never the query, nor a header: both hold secrets.
    if PROBES.contains(&path.as_str()) {
        tracing::debug!(server, %method, path, status = status.as_u16(), duration_ms, "answered");
    } else {
        tracing::info!(server, %method, path, status = status.as_u16(), duration_ms, "answered");
    }
    outcome
}

fn record(server: &'static str, method: &Method, route: String, status: StatusCode, started: Instant) {
    // A method is free text, too.
    let method = if method.is_safe() || method.is_idempotent() || *method == Method::POST || *method == Method::PATCH {
        method.as_str().to_owned()
    } else {
        "other".to_owned()
    };
    let labels =
        [("server", server.to_owned()), ("method", method), ("route", route), ("status", status.as_str().to_owned())];
    metrics::counter!("carillon_http_requests_total", &labels).increment(1);
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!("carillon_http_request_duration_seconds", &labels[..3]).record(seconds);
}

/// A failure that the framework answered in plain text, or not at all, in the form of the APIs.
fn in_json<B: MessageBody + 'static>(response: ServiceResponse<B>, method: &Method) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|text| text.contains("json"));
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response.map_into_boxed_body();
    }
    let reason = response.response().error().map(ToString::to_string);
    let error = match status {
        StatusCode::NOT_FOUND => ApiError::not_found(),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::method_not_allowed(method, &[]),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(),
        status if status.is_server_error() => {
            tracing::error!(error = reason, "request failed");
            ApiError::detail(status, "A server error occurred.")
        }
        status => ApiError::detail(status, reason.unwrap_or_else(|| phrase(status))),
    };
    let (request, original) = response.into_parts();
    let mut response: HttpResponse = error.error_response();
    if let Some(allow) = original.headers().get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    ServiceResponse::new(request, response)
}

fn phrase(status: StatusCode) -> String {
    format!("{}.", status.canonical_reason().unwrap_or("Request failed"))
}

fn is_request_id(text: &str) -> bool {
    (1..=REQUEST_ID_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_that_could_forge_a_log_line_is_replaced() {
        for (id, taken) in [("01J-abc_9", true), ("a b", false), ("", false), (&"x".repeat(129), false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            assert_eq!(RequestContext::from_headers(&headers).request_id == id, taken, "{id}");
        }
    }
}
