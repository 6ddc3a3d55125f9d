//! The body of a warning to an organisation: one of its endpoints is failing, or was disabled.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::payload::{text, timestamp};

/// The event of a warning that nothing has arrived at an endpoint for long.
pub const ENDPOINT_FAILING: &str = "endpoint.failing";
/// The event of a warning that an endpoint was disabled.
pub const ENDPOINT_DISABLED: &str = "endpoint.disabled";

/// A warning to an organisation: one of its endpoints is failing, or was disabled.
#[derive(Debug, Serialize)]
pub struct Warning<'a> {
    /// When it is given.
    #[serde(serialize_with = "as_timestamp")]
    pub timestamp: DateTime<Utc>,
    /// [`ENDPOINT_FAILING`] or [`ENDPOINT_DISABLED`].
    pub event: &'a str,
    /// Whose endpoint it is.
    pub organisation: &'a str,
    /// Whose callbacks do not arrive.
    pub periodic_agent: i64,
    /// `failing` or `disabled`.
    pub callback_state: &'a str,
    /// Since when.
    #[serde(serialize_with = "as_timestamp")]
    pub failing_since: DateTime<Utc>,
    /// When it is disabled at the earliest, if nothing arrives until then.
    #[serde(serialize_with = "as_timestamp")]
    pub disabled_from: DateTime<Utc>,
    /// Why it is disabled: `gone` or `failing`.
    pub reason: Option<&'a str>,
    /// How many delivery attempts failed since then.
    pub failures: i64,
    /// What came of the last one.
    pub last_outcome: &'a str,
}

impl Warning<'_> {
    /// Its body.
    #[must_use]
    pub fn body(&self) -> String {
        text(self)
    }
}

fn as_timestamp<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}
