//! What a request says about a mentor.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::secrets::Secret;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{Faults, Fields, Presence, Text};
use super::limits::{DESCRIPTION_CHARS_MAX, PROMPT_CHARS_MAX};
use super::url;

/// The ways to ask a mentor.
pub(crate) const KINDS: [&str; 3] = ["openai", "http", "echo"];

/// The most service groups that a mentor names.
const SERVICE_GROUPS_MAX: usize = 100;

/// The fields of a mentor that a request carries; absent ones keep what was there.
#[derive(Debug, Clone, Default)]
pub(crate) struct MentorInput {
    pub(crate) name: Option<String>,
    pub(crate) unique_id: Option<Uuid>,
    pub(crate) slug: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) system_prompt: Option<String>,
    pub(crate) llm_provider: Option<String>,
    pub(crate) llm_name: Option<String>,
    pub(crate) llm_temperature: Option<Option<f64>>,
    pub(crate) metadata: Option<Option<Value>>,
    pub(crate) service_groups: Option<Vec<Uuid>>,
    /// An inner none: by its `llm_provider`, or the default one.
    pub(crate) provider: Option<Option<ProviderInput>>,
    /// Of a mentor made from a template.
    pub(crate) template_name: Option<String>,
}

/// How a mentor is asked, as its owner wrote it; all of it but the API key is shown and stored as it stands here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct ProviderSettings {
    /// A provider of the configuration.
    pub(crate) name: String,
    /// `openai`, `http`, `echo`; empty with a name.
    pub(crate) kind: String,
    pub(crate) base_url: String,
    pub(crate) model: String,
    pub(crate) temperature: Option<f64>,
    pub(crate) max_output_tokens: Option<i64>,
    pub(crate) headers: BTreeMap<String, String>,
}

/// Settings with the API key in clear: only on the way to being sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProviderInput {
    pub(crate) settings: ProviderSettings,
    pub(crate) api_key: Option<Secret<String>>,
}

impl MentorInput {
    /// Reads `POST P/`, `PUT` and `PATCH P/{name}/`, noting every fault.
    pub(crate) fn read(body: &Value, presence: Presence, faults: &Faults) -> Self {
        let Some(fields) = Fields::of(body, presence, faults) else { return Self::default() };
        Self { name: fields.text("name", Text::REQUIRED.max(255)), ..Self::read_common(&fields) }
    }

    /// Reads `POST P/mentor-with-settings/`, noting every fault.
    pub(crate) fn read_with_settings(body: &Value, faults: &Faults) -> Self {
        let Some(fields) = Fields::of(body, Presence::Whole, faults) else { return Self::default() };
        Self {
            template_name: fields.text("template_name", Text::REQUIRED),
            name: fields.text("new_mentor_name", Text::REQUIRED.max(255)),
            ..Self::read_common(&fields)
        }
    }

    /// Reads `POST P/create-mentor-wizard/`, noting every fault: such a mentor is what its description says.
    pub(crate) fn read_wizard(body: &Value, faults: &Faults) -> Self {
        let Some(fields) = Fields::of(body, Presence::Whole, faults) else { return Self::default() };
        let description = fields.text("description", Text::REQUIRED.max(1_000));
        if description.as_ref().is_some_and(|text| text.chars().nth(19).is_none()) {
            fields.fault("description", "Ensure this field has at least 20 characters.");
        }
        let common = Self::read_common(&fields);
        Self {
            name: fields.text("name", Text::REQUIRED.max(100)),
            system_prompt: common.system_prompt.or_else(|| description.clone()),
            description,
            ..common
        }
    }

    fn read_common(fields: &Fields<'_>) -> Self {
        Self {
            name: None,
            template_name: None,
            unique_id: read_uuid(fields),
            slug: read_slug(fields),
            display_name: fields.text("display_name", Text::OPTIONAL.max(255)),
            description: fields.text("description", Text::OPTIONAL.max(DESCRIPTION_CHARS_MAX)),
            system_prompt: fields.text("system_prompt", Text::OPTIONAL.max(PROMPT_CHARS_MAX)),
            llm_provider: fields.text("llm_provider", Text::OPTIONAL.max(255)),
            llm_name: fields.text("llm_name", Text::OPTIONAL.max(255)),
            llm_temperature: fields.decimal("llm_temperature", 0.0, 1.0),
            metadata: read_metadata(fields),
            service_groups: read_uuids(fields, "service_groups", SERVICE_GROUPS_MAX),
            provider: fields.nullable_object("provider").map(|provider| provider.map(|fields| read_provider(&fields))),
        }
    }
}

fn read_uuid(fields: &Fields<'_>) -> Option<Uuid> {
    let text = fields.text("unique_id", Text::FILLED)?;
    let read = Uuid::parse_str(&text).ok();
    if read.is_none() {
        fields.fault("unique_id", "Must be a valid UUID.");
    }
    read
}

fn read_uuids(fields: &Fields<'_>, name: &str, max: usize) -> Option<Vec<Uuid>> {
    let value = fields.given(name)?;
    if value.as_array().is_some_and(|items| items.len() > max) {
        fields.fault(name, format!("Ensure this field has no more than {max} elements."));
        return None;
    }
    let items = value.as_array().map(|items| items.iter().map(|item| item.as_str().and_then(|text| text.parse().ok())));
    let read: Option<Vec<Uuid>> = items.and_then(Iterator::collect);
    if read.is_none() {
        fields.fault(name, "Must be a list of valid UUIDs.");
    }
    read
}

fn read_slug(fields: &Fields<'_>) -> Option<String> {
    let slug = fields.text("slug", Text::OPTIONAL.max(255)).filter(|slug| !slug.is_empty())?;
    if slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Some(slug);
    }
    fields.fault("slug", "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens.");
    None
}

fn read_metadata(fields: &Fields<'_>) -> Option<Option<Value>> {
    let value = fields.raw("metadata")?;
    if value.is_null() {
        return Some(None);
    }
    if !value.is_object() {
        fields.fault("metadata", "Value must be a JSON object or null.");
        return None;
    }
    if holds_nul(value) {
        fields.fault("metadata", super::fields::NO_NUL);
        return None;
    }
    Some(Some(value.clone()))
}

/// PostgreSQL holds NUL neither in text nor in JSON.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn read_provider(fields: &Fields<'_>) -> ProviderInput {
    let text = |name: &str, rule: Text| fields.text(name, rule).unwrap_or_default();
    let settings = ProviderSettings {
        name: text("name", Text::OPTIONAL.max(255)),
        kind: fields.choice("kind", &KINDS).unwrap_or_default().to_owned(),
        base_url: text("base_url", Text::OPTIONAL.max(2_000)),
        model: text("model", Text::OPTIONAL.max(255)),
        temperature: fields.decimal("temperature", 0.0, 2.0).flatten(),
        max_output_tokens: read_tokens(fields),
        headers: read_headers(fields),
    };
    check_provider(fields, &settings);
    let api_key = fields.nullable_text("api_key", Text::OPTIONAL.max(8_192)).flatten();
    ProviderInput { settings, api_key: api_key.filter(|key| !key.is_empty()).map(Secret::new) }
}

/// A provider says its kind and what that kind needs, or names one that is configured.
fn check_provider(fields: &Fields<'_>, settings: &ProviderSettings) {
    if settings.kind.is_empty() && settings.name.is_empty() && fields.raw("kind").is_none() {
        fields.fault("kind", "This field is required, unless `name` names a configured provider.");
    }
    if !settings.base_url.is_empty() && !url::is_valid(&settings.base_url) {
        fields.fault("base_url", url::BAD_URL);
    }
    let by_itself = settings.name.is_empty();
    if by_itself && matches!(settings.kind.as_str(), "openai" | "http") && fields.raw("base_url").is_none() {
        fields.fault("base_url", super::fields::REQUIRED);
    }
    if by_itself && settings.kind == "openai" && fields.raw("model").is_none() {
        fields.fault("model", super::fields::REQUIRED);
    }
}

fn read_tokens(fields: &Fields<'_>) -> Option<i64> {
    let tokens = fields.integer("max_output_tokens").flatten()?;
    if tokens < 1 {
        fields.fault("max_output_tokens", "Ensure this value is greater than or equal to 1.");
        return None;
    }
    Some(tokens)
}

fn read_headers(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(value) = fields.raw("headers").filter(|value| !value.is_null()) else { return BTreeMap::new() };
    let Ok(headers) = BTreeMap::<String, String>::deserialize(value) else {
        fields.fault("headers", "Must be an object whose values are strings.");
        return BTreeMap::new();
    };
    for (name, value) in &headers {
        if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err() {
            fields.fault("headers", format!("\"{name}\" or its value cannot stand in an HTTP header."));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(body: &Value) -> Value {
        let faults = Faults::default();
        MentorInput::read(body, Presence::Whole, &faults);
        faults.into_errors().into_value()
    }

    #[test]
    fn a_name_is_all_that_a_mentor_needs() {
        assert_eq!(faults_of(&json!({ "name": "Ada" })), json!({}));
        assert_eq!(faults_of(&json!({})), json!({ "name": ["This field is required."] }));
    }

    #[test]
    fn a_provider_is_checked_for_what_its_kind_needs() {
        let of = |provider: Value| faults_of(&json!({ "name": "Ada", "provider": provider }))["provider"].clone();
        for good in [
            json!({ "kind": "echo" }),
            json!({ "name": "azure", "model": "m" }),
            json!({ "kind": "http", "base_url": "http://mentor:9000/ask" }),
            json!({ "kind": "openai", "base_url": "https://api.example.com/v1", "model": "m", "temperature": 2,
                    "max_output_tokens": 100, "api_key": "k", "headers": { "x-team": "a" } }),
        ] {
            assert_eq!(of(good.clone()), Value::Null, "{good}");
        }
        assert_eq!(of(json!({}))["kind"][0], "This field is required, unless `name` names a configured provider.");
        assert_eq!(
            of(json!({ "kind": "openai", "temperature": 3, "max_output_tokens": 0, "headers": { "a b": "c" } })),
            json!({
                "base_url": ["This field is required."],
                "model": ["This field is required."],
                "temperature": ["Ensure this value is less than or equal to 2."],
                "max_output_tokens": ["Ensure this value is greater than or equal to 1."],
                "headers": ["\"a b\" or its value cannot stand in an HTTP header."],
            })
        );
        assert_eq!(
            of(json!({ "kind": "carrier pigeon" })),
            json!({ "kind": ["\"carrier pigeon\" is not a valid choice."] })
        );
        assert_eq!(of(json!([]))["non_field_errors"][0], "Invalid data. Expected a dictionary, but got list.");
    }

    #[test]
    fn an_api_key_does_not_show_in_debug() {
        let faults = Faults::default();
        let body = json!({ "name": "Ada", "provider": { "kind": "echo", "api_key": "sk-t0ps3cret" } });
        let input = MentorInput::read(&body, Presence::Whole, &faults);
        assert!(!format!("{input:?}").contains("t0ps3cret"));
        assert_eq!(input.provider.unwrap().unwrap().api_key.unwrap().expose(), "sk-t0ps3cret");
    }
}
