//! What requests may hold, for the API's document. They are read field by field in `validation`, which is more lenient:
//! numbers may come as text, keys that are not here are ignored.

#![expect(dead_code, reason = "they are described, and never made")]

use chrono::{DateTime, Utc};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// A periodic agent as it is written.
#[derive(ToSchema)]
pub(super) struct PeriodicAgentCreate {
    /// A mentor's public id (uuid) or integer id. The answer names it the same way.
    #[schema(schema_with = mentor)]
    mentor: Value,
    #[schema(min_length = 1, max_length = 255)]
    title: String,
    #[schema(max_length = 65536, nullable = false)]
    description: Option<String>,
    #[schema(max_length = 131072, nullable = false)]
    prompt: Option<String>,
    task: PeriodicTaskCreate,
    #[schema(max_length = 255, nullable = false)]
    pathway: Option<String>,
    /// Where results go: http or https. Networks that are not public must be allowed by `callbacks.allow_networks`.
    #[schema(max_length = 200, nullable = false)]
    callback_url: Option<String>,
    /// Signs the callbacks. Empty or absent: unchanged; null: removed. Reads never show it.
    #[schema(max_length = 255, nullable)]
    callback_secret: Option<String>,
    #[schema(max_length = 200, nullable = false)]
    parent_session_id: Option<String>,
    #[schema(nullable)]
    parent_mentor_id: Option<i64>,
    /// The agent that must have come to `previous_agent_status` before this one fires.
    #[schema(nullable)]
    previous_agent: Option<i64>,
    #[schema(schema_with = status)]
    previous_agent_status: Option<String>,
    /// What is called back.
    #[schema(schema_with = callback_on)]
    callback_on: Option<Vec<String>>,
    #[schema(nullable)]
    callback_options: Option<CallbackOptionsCreate>,
}

/// How callbacks are made; both need a `callback_secret`.
#[derive(ToSchema)]
pub(super) struct CallbackOptionsCreate {
    #[schema(nullable = false)]
    encrypt: Option<bool>,
    /// Without the headers of Standard Webhooks.
    #[schema(nullable = false)]
    signature_only_hub: Option<bool>,
}

/// When an agent fires. Null is the default of a field that the original does not have.
#[derive(ToSchema)]
pub(super) struct PeriodicTaskCreate {
    crontab: CrontabCreate,
    #[schema(nullable = false)]
    one_off: Option<bool>,
    #[schema(nullable)]
    start_time: Option<DateTime<Utc>>,
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Nothing fires at or after this.
    #[schema(nullable)]
    end_time: Option<DateTime<Utc>>,
    /// Each tick fires up to so much later; less than the shortest time between two ticks.
    #[schema(minimum = 0, maximum = 86400, nullable)]
    jitter_seconds: Option<i32>,
    #[schema(schema_with = overlap_policy)]
    overlap_policy: Option<String>,
    /// What becomes of missed ticks.
    #[schema(schema_with = catch_up)]
    catch_up: Option<String>,
    #[schema(minimum = 1, maximum = 31536000, nullable)]
    catch_up_window_seconds: Option<i32>,
    #[schema(minimum = 1, maximum = 100, nullable)]
    max_attempts: Option<i32>,
    #[schema(minimum = 1, maximum = 1500, nullable)]
    timeout_seconds: Option<i32>,
}

/// Five fields, each `*` by default, and the zone that they are read in.
#[derive(ToSchema)]
pub(super) struct CrontabCreate {
    #[schema(min_length = 1, max_length = 240, default = "*", nullable = false)]
    minute: Option<String>,
    #[schema(min_length = 1, max_length = 96, default = "*", nullable = false)]
    hour: Option<String>,
    #[schema(min_length = 1, max_length = 64, default = "*", nullable = false)]
    day_of_week: Option<String>,
    #[schema(min_length = 1, max_length = 124, default = "*", nullable = false)]
    day_of_month: Option<String>,
    #[schema(min_length = 1, max_length = 64, default = "*", nullable = false)]
    month_of_year: Option<String>,
    /// An IANA name; null: the organisation's.
    #[schema(nullable)]
    timezone: Option<String>,
}

/// A mentor as it is written.
#[derive(ToSchema)]
pub(super) struct MentorCreate {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Chosen once, on creation.
    #[schema(nullable = false)]
    unique_id: Option<Uuid>,
    #[schema(max_length = 255, pattern = "^[-a-zA-Z0-9_]*$", nullable = false)]
    slug: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    display_name: Option<String>,
    #[schema(max_length = 65536, nullable = false)]
    description: Option<String>,
    #[schema(max_length = 131072, nullable = false)]
    system_prompt: Option<String>,
    /// A provider of the configuration, where there is no `provider`.
    #[schema(max_length = 255, nullable = false)]
    llm_provider: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    llm_name: Option<String>,
    #[schema(minimum = 0, maximum = 1, nullable)]
    llm_temperature: Option<f64>,
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Value>,
    #[schema(max_items = 100, nullable = false)]
    service_groups: Option<Vec<Uuid>>,
    /// How it is asked; null: by `llm_provider`.
    #[schema(nullable)]
    provider: Option<ProviderCreate>,
}

/// How a mentor is asked: by a provider of the configuration (`name`), or by what stands here.
#[derive(ToSchema)]
pub(super) struct ProviderCreate {
    #[schema(max_length = 255, nullable = false)]
    name: Option<String>,
    #[schema(schema_with = kind)]
    kind: Option<String>,
    #[schema(max_length = 2000, nullable = false)]
    base_url: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    model: Option<String>,
    #[schema(minimum = 0, maximum = 2, nullable)]
    temperature: Option<f64>,
    #[schema(minimum = 1, nullable)]
    max_output_tokens: Option<i64>,
    /// Sealed; never shown. Absent where the rest is unchanged: kept.
    #[schema(max_length = 8192, nullable)]
    api_key: Option<String>,
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>, nullable = false)]
    headers: Option<Value>,
}

/// A mentor made from a template: the fields of `MentorCreate` beside these, without `name`.
#[derive(ToSchema)]
pub(super) struct MentorWithSettings {
    #[schema(min_length = 1)]
    template_name: String,
    #[schema(min_length = 1, max_length = 255)]
    new_mentor_name: String,
    #[schema(max_length = 255, nullable = false)]
    display_name: Option<String>,
    #[schema(max_length = 65536, nullable = false)]
    description: Option<String>,
    #[schema(max_length = 131072, nullable = false)]
    system_prompt: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    llm_provider: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    llm_name: Option<String>,
    #[schema(minimum = 0, maximum = 1, nullable)]
    llm_temperature: Option<f64>,
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Value>,
}

/// A mentor that is what its description says.
#[derive(ToSchema)]
pub(super) struct MentorWizard {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    #[schema(min_length = 20, max_length = 1000)]
    description: String,
}

/// A run that is made now.
#[derive(ToSchema)]
pub(super) struct RunCreate {
    /// Instead of the agent's own.
    #[schema(max_length = 131072, nullable)]
    prompt: Option<String>,
    /// The moment that the run is about; by default now.
    #[schema(nullable)]
    nominal_time: Option<DateTime<Utc>>,
}

/// Another callback secret.
#[derive(ToSchema)]
pub(super) struct SecretRotation {
    /// By default one is made, of the form `whsec_…`.
    #[schema(max_length = 255, nullable)]
    callback_secret: Option<String>,
    /// How long receivers may still use the secret before it; by default a day.
    #[schema(minimum = 0, maximum = 2592000, nullable)]
    grace_seconds: Option<i64>,
}

/// What may be changed of an organisation. A limit that is null is taken away.
#[derive(ToSchema)]
pub(super) struct OrganisationPatch {
    /// IANA name.
    #[schema(nullable = false)]
    timezone: Option<String>,
    #[schema(nullable = false)]
    paused: Option<bool>,
    #[schema(max_length = 1000, nullable = false)]
    paused_note: Option<String>,
    /// On a resume: what becomes of the ticks in between; by default as each schedule says.
    #[schema(schema_with = catch_up)]
    catch_up: Option<String>,
    #[schema(nullable = false)]
    limits: Option<OrganisationLimitsPatch>,
    #[schema(nullable = false)]
    retention: Option<OrganisationRetentionPatch>,
    /// A provider of the configuration; empty: the configuration's default.
    #[schema(max_length = 255, nullable = false)]
    default_provider: Option<String>,
    #[schema(max_length = 2000, nullable = false)]
    alert_url: Option<String>,
    /// Never shown. Null takes it away, empty leaves it.
    #[schema(max_length = 255, nullable)]
    alert_secret: Option<String>,
}

#[derive(ToSchema)]
struct OrganisationLimitsPatch {
    #[schema(minimum = 1, nullable)]
    agents_max: Option<i32>,
    #[schema(minimum = 1, nullable)]
    runs_in_flight_max: Option<i32>,
    #[schema(minimum = 1, nullable)]
    callbacks_in_flight_max: Option<i32>,
    #[schema(minimum = 1, nullable)]
    requests_per_minute: Option<i32>,
}

#[derive(ToSchema)]
struct OrganisationRetentionPatch {
    #[schema(minimum = 1, nullable)]
    logs_days: Option<i32>,
    #[schema(minimum = 1, nullable)]
    ticks_days: Option<i32>,
    #[schema(minimum = 1, nullable)]
    deliveries_days: Option<i32>,
}

/// An API key.
#[derive(ToSchema)]
pub(super) struct ApiKeyCreate {
    #[schema(max_length = 255, pattern = "^[-a-zA-Z0-9_]+$")]
    name: String,
    /// The organisation; by default the credential's own.
    #[schema(nullable = false)]
    platform_key: Option<String>,
    /// A duration as Django writes it: seconds, `[DD] [[HH:]MM:]SS`, or ISO 8601. Absent: it does not expire, or, if an
    /// API key that expires makes it, when that does; no such key makes one that expires later.
    #[schema(nullable)]
    expires_in: Option<String>,
    #[schema(nullable = false)]
    read_only: Option<bool>,
}

/// A crontab to preview, in a zone; by default the organisation's.
#[derive(ToSchema)]
pub(super) struct CrontabPreviewCreate {
    crontab: CrontabCreate,
    #[schema(nullable = false)]
    timezone: Option<String>,
    /// How many ticks to show.
    #[schema(minimum = 1, maximum = 100, default = 5, nullable = false)]
    count: Option<i64>,
    /// From when on; by default now.
    #[schema(nullable = false)]
    from: Option<DateTime<Utc>>,
}

/// Of a pause its note, of a resume what becomes of the ticks in between.
#[derive(ToSchema)]
pub(super) struct Pause {
    #[schema(max_length = 1000, nullable = false)]
    note: Option<String>,
    #[schema(schema_with = catch_up)]
    catch_up: Option<String>,
}

type Schema = utoipa::openapi::RefOr<utoipa::openapi::Schema>;

fn parsed(schema: Value) -> Schema {
    // What is written here is JSON that utoipa knows; a test reads the whole document.
    serde_json::from_value(schema).unwrap_or_else(|_| utoipa::openapi::Object::default().into())
}

fn mentor() -> Schema {
    parsed(
        serde_json::json!({ "oneOf": [{ "type": "string", "format": "uuid" }, { "type": "integer", "format": "int64" }] }),
    )
}

fn words(words: &[&str]) -> Schema {
    parsed(serde_json::json!({ "type": "string", "enum": words }))
}

fn status() -> Schema {
    words(&crate::validation::agent::STATUSES)
}

fn overlap_policy() -> Schema {
    words(&crate::validation::policy::OVERLAP_POLICIES)
}

fn catch_up() -> Schema {
    words(&crate::validation::policy::CATCH_UPS)
}

fn kind() -> Schema {
    words(&crate::validation::mentor::KINDS)
}

fn callback_on() -> Schema {
    parsed(serde_json::json!({
        "type": "array", "minItems": 1, "uniqueItems": true,
        "items": { "type": "string", "enum": ["runs", "skipped"] },
    }))
}
