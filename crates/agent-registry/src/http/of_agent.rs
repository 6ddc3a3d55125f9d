//! Requests that do something with one agent: whoever may, which agent, and what the body says.

use actix_web::{HttpRequest, web};
use serde_json::Value;
use service_kit::error::ApiError;

use super::body::{self, Form};
use super::request::{self, Item};
use crate::access::Acting;
use crate::state::State;
use crate::validation::form::Shape;

/// As such a request comes.
pub(super) type AgentParts = (web::Data<State>, HttpRequest, web::Payload, web::Path<Item>);

/// Such a request, let in and read.
pub(super) struct OfAgent {
    pub(super) state: web::Data<State>,
    pub(super) request: HttpRequest,
    pub(super) acting: Acting,
    pub(super) id: i64,
    pub(super) body: Value,
}

impl OfAgent {
    /// Lets it in and reads it; whether there is such an agent shows later.
    pub(super) async fn read((state, request, payload, path): AgentParts, shape: Shape) -> Result<Self, ApiError> {
        let acting = request::admit(&state, &request)?;
        let id = path.id("PeriodicAgent")?;
        let body = body::read(&state, &request, payload, Form::whole(shape)).await?;
        Ok(Self { state, request, acting, id, body })
    }
}
