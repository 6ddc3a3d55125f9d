//! The error bodies of this API: `{"detail": "…"}`, and for bad input 422 with one entry for each fault.

use std::fmt;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::json;
use service_kit::auth::AuthError;
use service_kit::database::DatabaseError;
use service_kit::error::ApiError;
use utoipa::ToSchema;

/// An answer other than success.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// `{"detail": "…"}` with its status.
    Plain(ApiError),
    /// 422 with everything that is wrong with the request.
    Invalid(Vec<Fault>),
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Where: `["body", "fields", 0, "name"]`.
    pub(crate) loc: Vec<Step>,
    /// What, for people.
    pub(crate) msg: String,
    /// What, for programs.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// A step on the way to what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Step {
    /// Into a part of the request, or a field.
    Name(String),
    /// Into an array.
    Index(usize),
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl Refusal {
    /// 404 for something that is not there, or not the caller's: the two look the same.
    pub(crate) fn no_such(thing: &str) -> Self {
        Self::Plain(ApiError::detail(StatusCode::NOT_FOUND, format!("{thing} not found")))
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn not_found() -> Self {
        Self::Plain(ApiError::detail(StatusCode::NOT_FOUND, "Not Found"))
    }

    /// 405, with the methods that the path does have in `Allow`.
    pub(crate) fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let error = ApiError::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        Self::Plain(error.with_header(header::ALLOW, &allowed))
    }

    /// 409: the user has as many of these as one user may have.
    pub(crate) fn too_many(things: &str, max: i64) -> Self {
        let text = format!("You have {max} {things}, the most that one user may have: delete some first");
        Self::Plain(ApiError::conflict(text))
    }

    /// 422 with a single fault of the body as a whole.
    pub(crate) fn body(kind: &'static str, msg: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { loc: vec!["body".into()], msg: msg.into(), kind }])
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(error) => error.fmt(f),
            Self::Invalid(faults) => write!(f, "answered 422: {} faults", faults.len()),
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Plain(error) => error.status(),
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Plain(error) => error.error_response(),
            Self::Invalid(faults) => HttpResponse::UnprocessableEntity().json(json!({ "detail": faults })),
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Plain(error)
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        Self::Plain(error.into())
    }
}

impl From<diesel::result::Error> for Refusal {
    fn from(error: diesel::result::Error) -> Self {
        Self::Plain(error.into())
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let status = error.status();
        let answer = ApiError::detail(status, error.detail());
        let unknown = status == StatusCode::UNAUTHORIZED;
        Self::Plain(if unknown { answer.with_header(header::WWW_AUTHENTICATE, "Bearer") } else { answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_three_keys_and_steps_are_names_and_numbers() {
        let fault = Fault { loc: vec!["body".into(), Step::Index(0)], msg: "m".to_owned(), kind: "missing" };
        assert_eq!(json!([fault]), json!([{ "loc": ["body", 0], "msg": "m", "type": "missing" }]));
    }
}
