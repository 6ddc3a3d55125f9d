//! What operations are made of: parameters, bodies, and the answers that many of them share.

use serde_json::{Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use crate::validation::form;

pub(super) fn operation(
    method: &'static str,
    path: String,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
) -> Operation {
    Operation { method, path, id, tag, summary, parameters: vec![], body: None, answers: vec![], open: false }
}

pub(super) fn detail(description: &str, text: &str, code: Option<&str>) -> Value {
    let mut example = json!({ "detail": text });
    if let Some(code) = code {
        example["code"] = json!(code);
    }
    answer(description, reference("Detail"), example)
}

/// The answers that every operation may give.
pub(super) fn with_common_answers(mut operation: Operation) -> Operation {
    let mut common = vec![
        (400, detail("The request cannot be read.", "The request body could not be read.", None)),
        (401, detail("Nobody we know.", "Authentication credentials were not provided.", None)),
        (403, detail("Not allowed.", "You do not have permission to perform this action.", None)),
        (404, detail("It is not there.", "Not found.", None)),
        (406, detail("JSON is not accepted.", "Could not satisfy the request Accept header.", None)),
        (
            429,
            detail(
                "The organisation has asked too often; `Retry-After` says when to ask again.",
                "Request was throttled. Expected available in 10 seconds.",
                Some("throttled"),
            ),
        ),
        unavailable(),
    ];
    if operation.body.is_some() {
        common.extend([
            (408, detail("The body came too slowly.", "Request body took too long.", None)),
            (413, detail("The body is too large.", "Request body is too large.", None)),
            (415, detail("Another media type.", "Unsupported media type \"text/plain\" in request.", None)),
        ]);
    }
    let has = |status: u16| operation.answers.iter().any(|(other, _)| *other == status);
    common.retain(|(status, _)| !has(*status));
    operation.answers.extend(common);
    operation.answers.sort_by_key(|(status, _)| *status);
    operation
}

pub(super) fn field_errors() -> (u16, Value) {
    (400, answer("What is wrong, by field.", reference("FieldErrors"), json!({ "title": ["This field is required."] })))
}

pub(super) fn no_such(object: &str) -> (u16, Value) {
    (404, detail("It is not there.", &format!("No {object} matches the given query."), None))
}

/// Of what brings an organisation into being.
pub(super) fn being_erased() -> (u16, Value) {
    let text = "This organisation is being erased: try again when it is gone.";
    (409, detail("The organisation is being erased.", text, Some("organisation_erasing")))
}

pub(super) fn unavailable() -> (u16, Value) {
    let text = "Service temporarily unavailable, try again later.";
    let description = "What is needed is away; `Retry-After` says when to ask again.";
    (503, detail(description, text, Some("dispatcher_unavailable")))
}

pub(super) fn no_page() -> (u16, Value) {
    (404, detail("No such page.", "Invalid page.", None))
}

pub(super) fn gone() -> (u16, Value) {
    (204, json!({ "description": "It is gone." }))
}

pub(super) fn key_reused() -> (u16, Value) {
    let text = "This `Idempotency-Key` was used for another request: take a new key.";
    (422, detail("The key was used for something else.", text, Some("idempotency_key_reused")))
}

/// An answer with the request that it may lead to, its body made of what is answered.
pub(super) fn linked((status, mut answer): (u16, Value), operation: &str, body: Value) -> (u16, Value) {
    answer["links"] = json!({ operation: { "operationId": operation, "requestBody": body } });
    (status, answer)
}

/// A page of these.
pub(super) fn page(name: &str, example: Value) -> (u16, Value) {
    let example = json!({ "count": 1, "next": null, "previous": null, "results": [example] });
    (200, answer("A page.", reference(&format!("{name}Page")), example))
}

/// A body as JSON, and as both kinds of form: in those the names of nested fields have dots.
pub(super) fn body(schema: &str, shape: form::Shape, required: bool, example: Value) -> Value {
    let fields: serde_json::Map<String, Value> = shape
        .iter()
        .map(|(name, kind)| {
            let schema = match kind {
                form::Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
                _ => json!({ "type": "string" }),
            };
            ((*name).to_owned(), schema)
        })
        .collect();
    let form = json!({ "schema": { "type": "object", "properties": fields } });
    json!({ "required": required, "content": {
        "application/json": { "schema": reference(schema), "example": example },
        "application/x-www-form-urlencoded": form,
        "multipart/form-data": form,
    } })
}

pub(super) fn query(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema })
}

pub(super) fn text(name: &str) -> Value {
    query(name, json!({ "type": "string" }))
}

pub(super) fn number(name: &str) -> Value {
    query(name, json!({ "type": "integer", "format": "int64" }))
}

/// A moment; empty is as none.
pub(super) fn moment(name: &str) -> Value {
    query(name, json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "const": "" }] }))
}

pub(super) fn boolean(name: &str) -> Value {
    query(name, json!({ "type": "boolean" }))
}

pub(super) fn one_of(name: &str, words: &[&str]) -> Value {
    query(name, json!({ "type": "string", "enum": words }))
}

pub(super) fn paging() -> Vec<Value> {
    let page = json!({ "oneOf": [{ "type": "integer", "minimum": 1 }, { "const": "last" }] });
    let size = json!({ "type": "integer", "minimum": 1, "default": 25, "description": "At most 100." });
    vec![query("page", page), query("page_size", size)]
}

pub(super) fn list() -> Vec<Value> {
    let mut parameters = paging();
    parameters.push(query(
        "ordering",
        json!({ "type": "string", "description": "`field` or `-field`, separated by commas." }),
    ));
    parameters.push(query(
        "search",
        json!({ "type": "string", "description": "Every word must be found; \"phrases\" whole." }),
    ));
    parameters
}

pub(super) fn filters() -> Vec<Value> {
    let statuses = crate::validation::agent::STATUSES;
    vec![
        boolean("enabled"),
        text("mentor_id"),
        number("parent_mentor_id"),
        text("parent_session_id"),
        number("previous_agent"),
        one_of("previous_agent_status", &statuses),
        one_of("status", &statuses),
        text("title"),
        text("username"),
    ]
}

pub(super) fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "Repeated with the same key and body within a day, a request is answered as the first time, and \
            does nothing more.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
    })
}
