//! What is logged, asked and changed while the process runs. It holds until the process ends.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use crate::error::ApiError;
use crate::telemetry::LogLevel;

/// Adds the routes of every microservice.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/log-level", web::get().to(get)).route("/log-level", web::put().to(put));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// As `telemetry.log`; empty: as configured.
    log: String,
}

/// `GET /internal/log-level`: what is logged now.
async fn get() -> Result<HttpResponse, ApiError> {
    Ok(answer(level()?))
}

/// `PUT /internal/log-level`: changes it; 400 for what is not understood.
async fn put(wanted: web::Json<Wanted>) -> Result<HttpResponse, ApiError> {
    let level = level()?;
    level.change(&wanted.log).map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(answer(level))
}

fn level() -> Result<&'static LogLevel, ApiError> {
    LogLevel::of_process().ok_or_else(|| ApiError::conflict("what this process logs is not its own to decide"))
}

fn answer(level: &LogLevel) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "log": level.now() }))
}
