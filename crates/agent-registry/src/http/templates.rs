//! `P/available-template-mentors/`: what `mentor-with-settings` can start from.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use service_kit::error::ApiError;
use utoipa::ToSchema;

use super::request;
use crate::state::State;

/// A template that every organisation has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateMentor)]
pub(super) struct Template {
    id: i64,
    name: &'static str,
    platform: &'static str,
    slug: &'static str,
    unique_id: &'static str,
    description: &'static str,
    pub(super) system_prompt: &'static str,
}

/// The names that clients of the original send.
const TEMPLATES: [Template; 2] = [
    Template {
        id: 1,
        name: "ai-mentor",
        platform: "main",
        slug: "ai-mentor",
        unique_id: "7f1d3c52-0c0c-5a53-9a2d-6d0c7a1d0001",
        description: "A mentor that says only what it is told to.",
        system_prompt: "",
    },
    Template {
        id: 2,
        name: "mentorAI",
        platform: "main",
        slug: "mentorai",
        unique_id: "7f1d3c52-0c0c-5a53-9a2d-6d0c7a1d0002",
        description: "A helpful assistant.",
        system_prompt: "You are a helpful assistant.",
    },
];

/// The template that a client names by name, slug or public id.
pub(super) fn find(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| [template.name, template.slug, template.unique_id].contains(&name))
}

/// `GET P/available-template-mentors/`
pub(super) async fn list_templates(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    request::admit(&state, &request)?;
    Ok(HttpResponse::Ok().json(&TEMPLATES))
}
