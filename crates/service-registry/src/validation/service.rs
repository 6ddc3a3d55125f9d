//! What a request says about a service.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::egress::Guard;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{Faults, Fields, Length};
use super::words;
use crate::refusal::Refusal;

/// The two kinds of service: one that answers an objective itself, and one that another asks for information.
pub(crate) const TASK_TYPES: [&str; 2] = ["task", "subtask"];

const NAME: Length = Length::filled(255);
const DESCRIPTION_CHARS_MAX: usize = 10_000;
const FIELDS_MAX: usize = 100;
/// Of all fields together, as JSON: models read them at every turn of every run that is offered the service.
const FIELDS_BYTES_MAX: usize = 64 * 1024;
const ENDPOINT_CHARS_MAX: usize = 2_000;

/// The fields of a service that a request carries. Of the last three, none means that the request does not speak of
/// it, and an inner none that it is null.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServiceInput {
    pub(crate) agent: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) protocol_digest: String,
    pub(crate) model_digest: String,
    pub(crate) model_name: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) task_type: String,
    pub(crate) category: Option<Option<String>>,
    pub(crate) location: Option<Option<String>>,
    pub(crate) endpoint: Option<Option<String>>,
}

/// A field of the message that a service takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) field_type: String,
    pub(crate) description: String,
}

impl ServiceInput {
    /// Reads `POST /services`.
    pub(crate) fn read(body: &Value, egress: &Guard) -> Result<Self, Refusal> {
        let faults = Faults::default();
        let input = Fields::of_body(body, &faults).map(|fields| Self::read_fields(&fields, egress));
        faults.into_result()?;
        Ok(input.unwrap_or_default())
    }

    /// Reads `PUT /services`, whose body names the service. What the registry itself computes is passed over.
    pub(crate) fn read_with_id(body: &Value, egress: &Guard) -> Result<(Uuid, Self), Refusal> {
        let faults = Faults::default();
        let read = Fields::of_body(body, &faults)
            .map(|fields| (fields.uuid("uuid").unwrap_or_default(), Self::read_fields(&fields, egress)));
        faults.into_result()?;
        Ok(read.unwrap_or_default())
    }

    fn read_fields(fields: &Fields<'_>, egress: &Guard) -> Self {
        let text = |name: &str, length: Length| fields.text(name, length).unwrap_or_default().to_owned();
        let nullable = |name: &str| {
            let read = fields.nullable_text(name, Length::any(NAME.max));
            read.map(|text| text.map(str::to_owned))
        };
        Self {
            agent: read_agent(fields),
            name: text("name", NAME),
            description: text("description", Length::filled(DESCRIPTION_CHARS_MAX)),
            protocol_digest: read_digest(fields, "protocolDigest", "proto:"),
            model_digest: read_digest(fields, "modelDigest", "model:"),
            model_name: text("modelName", NAME),
            fields: read_list(fields),
            task_type: fields.word("taskType", &TASK_TYPES).unwrap_or_default().to_owned(),
            category: nullable("category"),
            location: nullable("location"),
            endpoint: read_endpoint(fields, egress),
        }
    }
}

fn read_agent(fields: &Fields<'_>) -> String {
    let agent = fields.text("agent", Length::any(NAME.max));
    if agent.is_some_and(|agent| !words::is_address(agent)) {
        fields.fault("agent", BAD_ADDRESS.0, BAD_ADDRESS.1);
    }
    agent.unwrap_or_default().to_owned()
}

/// What is said about an address that is none.
pub(super) const BAD_ADDRESS: (&str, &str) = (
    "value_error",
    "Input should be the address of an agent: agent1 and 59 characters, of which the last 6 check the rest",
);

/// Whether `text` is the address of an agent.
pub(super) fn is_address(text: &str) -> bool {
    words::is_address(text)
}

fn read_digest(fields: &Fields<'_>, name: &str, prefix: &str) -> String {
    let Some(text) = fields.text(name, Length::any(NAME.max)) else { return String::new() };
    words::digest(text, prefix).unwrap_or_else(|| {
        let msg = format!("Input should be {prefix} and 64 hexadecimal digits in lower case");
        fields.fault(name, "string_pattern_mismatch", msg);
        String::new()
    })
}

fn read_list(fields: &Fields<'_>) -> Vec<Field> {
    let mut names = HashSet::new();
    let items = fields.objects("fields", FIELDS_MAX).unwrap_or_default();
    let read = |item: &Fields<'_>| {
        let name = item.text("name", NAME);
        let required = item.boolean("required");
        let field_type = item.text("field_type", NAME);
        let description = item.text("description", Length::any(DESCRIPTION_CHARS_MAX));
        if let Some(name) = name
            && !names.insert(name.to_owned())
        {
            item.fault("name", "value_error", format!("Another field is called {name}, too"));
        }
        Some(Field {
            name: name?.to_owned(),
            required: required?,
            field_type: field_type?.to_owned(),
            description: description?.to_owned(),
        })
    };
    // Whatever is left out here has left a fault.
    let list: Vec<Field> = items.iter().filter_map(read).collect();
    let bytes = serde_json::to_vec(&list).map_or(0, |json| json.len());
    if bytes > FIELDS_BYTES_MAX {
        let msg = format!("List should take at most {FIELDS_BYTES_MAX} bytes as JSON, not {bytes}");
        fields.fault("fields", "value_error", msg);
    }
    list
}

fn read_endpoint(fields: &Fields<'_>, egress: &Guard) -> Option<Option<String>> {
    let endpoint = fields.nullable_text("endpoint", Length::any(ENDPOINT_CHARS_MAX))?;
    let Some(text) = endpoint else { return Some(None) };
    match check_endpoint(text, egress) {
        Ok(()) => Some(Some(text.to_owned())),
        Err((kind, msg)) => {
            fields.fault("endpoint", kind, msg);
            None
        }
    }
}

fn check_endpoint(text: &str, egress: &Guard) -> Result<(), (&'static str, String)> {
    // The parser would pass over white space.
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err(("url_parsing", "Input should be a valid URL, without white space".to_owned()));
    }
    let url = Url::parse(text).map_err(|error| ("url_parsing", format!("Input should be a valid URL, {error}")))?;
    // Runs authenticate with a token of their own, and what stands here is shown in answers and logs.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("value_error", "URL should hold neither user name nor password".to_owned()));
    }
    egress.check_url(&url).map_err(|error| ("value_error", error.to_string()))
}
