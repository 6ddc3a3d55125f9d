//! The body of a request, read whole within its time.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, web};

use crate::clock::Clock;
use crate::error::ApiError;

/// How long a client may take to send its body.
const WITHIN: Duration = Duration::from_secs(30);

/// The whole body, or 408: who sends slowly must not hold a part of the memory for as long as he likes.
///
/// # Errors
///
/// Also 413 for more than the server takes, and 400 for what cannot be read.
pub async fn read_body(clock: &Clock, request: &HttpRequest, payload: web::Payload) -> Result<web::Bytes, ApiError> {
    let mut payload = payload.into_inner();
    let read = tokio::select! {
        read = web::Bytes::from_request(request, &mut payload) => read,
        () = clock.sleep(WITHIN) => {
            return Err(ApiError::detail(StatusCode::REQUEST_TIMEOUT, "Request body took too long."));
        }
    };
    read.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(),
        _ => ApiError::detail(StatusCode::BAD_REQUEST, "The request body could not be read."),
    })
}
