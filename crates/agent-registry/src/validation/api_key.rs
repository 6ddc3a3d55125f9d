//! What a request says of a new API key.

use std::time::Duration;

use serde_json::Value;

use super::duration;
use super::fields::{Faults, Fields, Presence, Text};

const NAME_CHARS_MAX: usize = 255;
/// A hundred years.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);
const BAD_SLUG: &str = "Enter a valid \"slug\" consisting of letters, numbers, underscores or hyphens.";

/// A new API key.
#[derive(Debug, Default)]
pub(crate) struct ApiKeyInput {
    pub(crate) name: String,
    /// The organisation; none: the credential's own.
    pub(crate) platform_key: Option<String>,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) read_only: bool,
}

impl ApiKeyInput {
    /// Reads the body, noting all that is wrong with it.
    pub(crate) fn read(body: &Value, faults: &Faults) -> Self {
        let Some(fields) = Fields::of(body, Presence::Whole, faults) else { return Self::default() };
        let name = fields.text("name", Text::REQUIRED.max(NAME_CHARS_MAX)).unwrap_or_default();
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            fields.fault("name", BAD_SLUG);
        }
        Self {
            name,
            platform_key: fields.text("platform_key", Text::FILLED.max(NAME_CHARS_MAX)),
            expires_in: expires_in(&fields),
            read_only: fields.boolean("read_only").unwrap_or_default(),
        }
    }
}

fn expires_in(fields: &Fields<'_>) -> Option<Duration> {
    let text = match fields.raw("expires_in")? {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let fault = match duration::parse(&text) {
        Some(duration) if duration > EXPIRES_IN_MAX => "Ensure this value is less than or equal to 36500 days.",
        Some(duration) if duration.is_zero() => "Ensure this value is greater than 0.",
        Some(duration) => return Some(duration),
        None => duration::BAD_DURATION,
    };
    fields.fault("expires_in", fault);
    None
}
