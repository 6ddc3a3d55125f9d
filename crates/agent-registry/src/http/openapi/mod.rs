//! The API's document, OpenAPI 3.1: made of the types that answers are written from, and of one table of operations.
//!
//! A test holds it against the routes that are mounted, and against `docs/openapi.json`.

mod callbacks;
mod core;
mod examples;
mod operations;
mod parts;
mod requests;
mod schedule;

use serde_json::{Map, Value, json};
use service_kit::api_docs::{self, add_schema};

use super::{
    agent_view, agents, api_keys, audit_log, logs, mentor_view, organisation_view, runs, schedule as schedule_views,
    secrets, templates, users,
};

/// The document.
pub(crate) fn document() -> Value {
    let info = json!({
        "title": "Carillon: periodic agents",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Scheduled AI agents. `P` is `/api/ai-mentor/orgs/{org}/users/{user_id}`: an organisation, and \
            the user that the caller acts as. A path without its final slash redirects. Lists have pages (`page`, \
            `page_size`), most can be searched and ordered. Bodies may be JSON or forms, with dots in the names of what \
            is nested.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    let components = json!({ "schemas": schemas(), "securitySchemes": { "credential": {
        "type": "apiKey", "in": "header", "name": "Authorization",
        "description": "`Bearer <token>`, `Token <token>`, `Api-Token <key>`, `Api-Key <key>`, or either without a word.",
    } } });
    api_docs::document(info, &operations::all(), components, json!([{ "credential": [] }]))
}

fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    add_schema::<agent_view::AgentView>(&mut schemas);
    add_schema::<mentor_view::MentorView>(&mut schemas);
    add_schema::<logs::LogView>(&mut schemas);
    add_schema::<runs::TickView>(&mut schemas);
    add_schema::<agents::Statistics>(&mut schemas);
    add_schema::<secrets::RotatedView>(&mut schemas);
    add_schema::<templates::Template>(&mut schemas);
    add_schema::<requests::PeriodicAgentCreate>(&mut schemas);
    add_schema::<requests::MentorCreate>(&mut schemas);
    add_schema::<requests::MentorWithSettings>(&mut schemas);
    add_schema::<requests::MentorWizard>(&mut schemas);
    add_schema::<requests::RunCreate>(&mut schemas);
    add_schema::<requests::SecretRotation>(&mut schemas);
    add_schema::<organisation_view::OrganisationView>(&mut schemas);
    add_schema::<users::UserView>(&mut schemas);
    add_schema::<api_keys::ApiKeyView>(&mut schemas);
    add_schema::<audit_log::ChangeView>(&mut schemas);
    add_schema::<requests::OrganisationPatch>(&mut schemas);
    add_schema::<requests::ApiKeyCreate>(&mut schemas);
    add_schema::<requests::Pause>(&mut schemas);
    add_schema::<requests::CrontabPreviewCreate>(&mut schemas);
    add_schema::<schedule_views::UpcomingView>(&mut schemas);
    add_schema::<schedule_views::PreviewView>(&mut schemas);
    // A change is a creation of which everything may be absent.
    for (whole, partial) in [
        ("PeriodicAgentCreate", "PeriodicAgentPatch"),
        ("PeriodicTaskCreate", "PeriodicTaskPatch"),
        ("MentorCreate", "MentorPatch"),
    ] {
        let mut schema = schemas.get(whole).cloned().unwrap_or_default();
        if let Some(members) = schema.as_object_mut() {
            members.remove("required");
        }
        schemas.insert(partial.to_owned(), schema);
    }
    if let Some(task) = schemas.get_mut("PeriodicAgentPatch").and_then(|agent| agent.pointer_mut("/properties/task")) {
        *task = api_docs::reference("PeriodicTaskPatch");
    }
    for name in ["PeriodicAgent", "Mentor", "PeriodicAgentLog", "Tick", "Organisation", "Change", "Delivery"] {
        let page = json!({
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {
                "count": { "type": "integer", "minimum": 0 },
                "next": { "type": ["string", "null"], "format": "uri" },
                "previous": { "type": ["string", "null"], "format": "uri" },
                "results": { "type": "array", "items": api_docs::reference(name) },
            },
        });
        schemas.insert(format!("{name}Page"), page);
    }
    schemas.extend(callbacks::schemas());
    schemas.extend(errors());
    schemas
}

fn errors() -> [(String, Value); 2] {
    let detail = json!({
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": { "type": "string", "description": "For people." },
            "code": { "type": "string", "description": "For programs: it stays when the text is bettered." },
        },
    });
    let fields = json!({
        "type": "object",
        "description": "What is wrong with each field, nested as the fields are; of an object as a whole in \
            `non_field_errors`. What is not about a field is in `detail` or `error`.",
        "additionalProperties": true,
    });
    [("Detail".to_owned(), detail), ("FieldErrors".to_owned(), fields)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_document_is_the_committed_one_and_has_every_mounted_route_and_nothing_else() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));
        let update = std::env::var_os("UPDATE").is_some();
        service_kit::api_docs::check(&super::document(), &crate::http::operations(), file, update).unwrap();
    }
}
