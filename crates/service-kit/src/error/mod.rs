//! The error bodies of the APIs, in the shapes that clients of the original know.
//!
//! A field's faults are `{"task": {"crontab": {"minute": ["…"]}}}`, everything else is `{"detail": "…", "code": "…"}`.
//! The detail is for people and may be put better one day; the code is for programs and stays. Faults of fields carry
//! no code: every key beside them would be taken for a field. What failed inside is logged here, once, and never told
//! to the client.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use crate::auth::AuthError;
use crate::database::DatabaseError;

mod fields;

pub use fields::FieldErrors;

/// How long a client should wait before it asks again after an outage of ours.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An answer other than success: a status, a JSON body and headers.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// `{"detail": text}`, with the code that such a status usually has.
    pub fn detail(status: StatusCode, text: impl Into<String>) -> Self {
        let body = json!({ "detail": text.into(), "code": usual_code(status) });
        Self { status, body, headers: Vec::new() }
    }

    /// The same answer with a code of its own.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.body["code"] = code.into();
        self
    }

    /// 400 with the faults of each field.
    #[must_use]
    pub fn fields(errors: FieldErrors) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: errors.into_value(), headers: Vec::new() }
    }

    /// 404 for a path that leads nowhere.
    #[must_use]
    pub fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not found.")
    }

    /// 404 for an object that is not there: `No PeriodicAgent matches the given query.`
    #[must_use]
    pub fn no_such(object: &str) -> Self {
        Self::detail(StatusCode::NOT_FOUND, format!("No {object} matches the given query."))
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::detail(StatusCode::FORBIDDEN, "You do not have permission to perform this action.")
    }

    /// 405, with the methods that the path does have in `Allow`.
    #[must_use]
    pub fn method_not_allowed(method: &Method, allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        Self::detail(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))
            .with_header(header::ALLOW, &allowed)
    }

    /// 406: the client accepts no JSON.
    #[must_use]
    pub fn not_acceptable() -> Self {
        Self::detail(StatusCode::NOT_ACCEPTABLE, "Could not satisfy the request Accept header.")
    }

    /// 409: the request contradicts what is there.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::detail(StatusCode::CONFLICT, text)
    }

    /// `{"detail": text, "code": code}`: a code for programs, which stays as it is when the text is bettered.
    pub fn coded(status: StatusCode, code: &str, text: impl Into<String>) -> Self {
        Self { status, body: json!({ "detail": text.into(), "code": code }), headers: Vec::new() }
    }

    /// 413: the body is larger than `http.body_bytes_max`.
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::detail(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large.")
    }

    /// 415, naming the content type that the request had.
    #[must_use]
    pub fn unsupported_media_type(content_type: &str) -> Self {
        Self::detail(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Unsupported media type \"{content_type}\" in request."),
        )
    }

    /// 429, with the whole seconds until there is room again in `Retry-After`.
    #[must_use]
    pub fn throttled(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let (seconds, unit) = (seconds.max(1), if seconds > 1 { "seconds" } else { "second" });
        let text = format!("Request was throttled. Expected available in {seconds} {unit}.");
        Self::detail(StatusCode::TOO_MANY_REQUESTS, text).with_header(header::RETRY_AFTER, &seconds.to_string())
    }

    /// 503 with `Retry-After` and a code that says what is away, as `dispatcher_unavailable`.
    #[must_use]
    pub fn unavailable(code: &str, retry_after: Duration) -> Self {
        Self::detail(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable, try again later.")
            .with_code(code)
            .with_header(header::RETRY_AFTER, &retry_after.as_secs().max(1).to_string())
    }

    /// 500. The cause goes to the log, here and nowhere else; the body does not tell it.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "request failed");
        Self::detail(StatusCode::INTERNAL_SERVER_ERROR, "A server error occurred.")
    }

    /// The same answer with one more header; a value that no header can hold is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The JSON body of the answer.
    #[must_use]
    pub fn body(&self) -> &Value {
        &self.body
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}: {}", self.status, self.body)
    }
}

impl Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for header in &self.headers {
            response.append_header(header.clone());
        }
        response.json(&self.body)
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::fields(errors)
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        if error.is_unavailable() {
            tracing::warn!(error = %chain(&error), "request refused: the database is unavailable");
            return Self::unavailable("database_unavailable", RETRY_AFTER);
        }
        Self::internal(&error)
    }
}

impl From<diesel::result::Error> for ApiError {
    fn from(error: diesel::result::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        // The client is not told, but whoever set up the tokens must be able to find out.
        tracing::debug!(error = %error, "a caller was turned away");
        let status = error.status();
        let code = match &error {
            AuthError::NotProvided => "not_authenticated",
            AuthError::Malformed(_) | AuthError::Invalid(_) => "authentication_failed",
            AuthError::SessionToken | AuthError::NotAllowed => "permission_denied",
        };
        let answer = Self::detail(status, error.detail()).with_code(code);
        if status == StatusCode::UNAUTHORIZED { answer.with_header(header::WWW_AUTHENTICATE, "Token") } else { answer }
    }
}

/// The code of an answer that has none of its own: where Django REST framework has one, that.
fn usual_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "bad_request",
        401 => "authentication_failed",
        403 => "permission_denied",
        404 => "not_found",
        405 => "method_not_allowed",
        406 => "not_acceptable",
        408 => "request_timeout",
        409 => "conflict",
        413 => "body_too_large",
        415 => "unsupported_media_type",
        429 => "throttled",
        503 => "unavailable",
        _ => "error",
    }
}

/// An error with all its causes in one line, for the one place that logs it.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    // Some libraries speak in several lines.
    causes.map(|cause| cause.lines().map(str::trim).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of<'a>(response: &'a HttpResponse, name: &str) -> &'a str {
        response.headers().get(name).unwrap().to_str().unwrap()
    }

    #[test]
    fn what_is_away_is_told_by_code_and_retry_after() {
        let error = ApiError::unavailable("dispatcher_unavailable", Duration::from_secs(3));
        assert_eq!(error.body()["code"], "dispatcher_unavailable");
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(header_of(&response, "retry-after"), "3");
        assert_eq!(header_of(&response, "content-type"), "application/json");
    }

    #[test]
    fn a_failure_inside_is_not_told_to_the_client() {
        let cause = std::io::Error::other("/var/lib/carillon/registry.db: broken");
        let error = ApiError::internal(&cause);
        assert_eq!(error.body(), &json!({ "detail": "A server error occurred.", "code": "error" }));
    }

    #[test]
    fn a_refused_method_names_itself_and_those_allowed() {
        let error = ApiError::method_not_allowed(&Method::DELETE, &[Method::GET, Method::POST]);
        assert_eq!(error.body(), &json!({ "detail": "Method \"DELETE\" not allowed.", "code": "method_not_allowed" }));
        assert_eq!(header_of(&error.error_response(), "allow"), "GET, POST");
    }

    #[test]
    fn an_unknown_caller_is_told_how_to_authenticate() {
        let error = ApiError::from(AuthError::NotProvided);
        let text = "Authentication credentials were not provided.";
        assert_eq!(error.body(), &json!({ "detail": text, "code": "not_authenticated" }));
        assert_eq!(header_of(&error.error_response(), "www-authenticate"), "Token");
    }

    #[test]
    fn a_query_at_fault_is_500_and_a_database_away_is_503() {
        let fault = ApiError::from(diesel::result::Error::NotFound);
        assert_eq!(fault.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let away = ApiError::from(DatabaseError::Stopped);
        assert_eq!(
            (away.status(), &away.body()["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("database_unavailable"))
        );
    }

    #[test]
    fn a_chain_tells_every_cause_once() {
        let error = DatabaseError::from(diesel::result::Error::NotFound);
        assert_eq!(chain(&error), "query failed: Record not found");
    }
}
