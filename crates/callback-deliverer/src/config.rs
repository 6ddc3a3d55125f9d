//! `[callbacks]`: how callbacks are sent.

use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, comma_list, in_range};

/// `[callbacks]`: where callbacks may go, and how much each delivery attempt may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Networks that callbacks may reach although they are not public, such as `10.1.0.0/16`, or `127.0.0.0/8` and
    /// `::1/128` for receivers on this host.
    #[serde(with = "comma_list")]
    #[schemars(with = "Vec<String>")]
    pub allow_networks: Vec<IpNet>,
    /// The longest a delivery attempt may take: resolving, connecting (five seconds at most), TLS, headers and body
    /// together.
    pub deadline_ms: u64,
    /// The most delivery attempts at a time. Half of them for one organisation, unless it has a limit of its own, and
    /// for one host; three quarters for what is tried again.
    pub in_flight_max: usize,
    /// The most megabytes of callbacks in memory; a larger one goes alone.
    pub body_megabytes_max: u32,
    /// Days that settled deliveries (delivered, discarded, exhausted) are kept.
    pub deliveries_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            deadline_ms: 15_000,
            in_flight_max: 512,
            body_megabytes_max: 64,
            deliveries_days: 30,
        }
    }
}

impl Config {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key and value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("callbacks.deadline_ms", self.deadline_ms, 100, 60_000)?;
        in_range("callbacks.in_flight_max", self.in_flight_max, 1, 10_000)?;
        in_range("callbacks.body_megabytes_max", self.body_megabytes_max, 1, 4_096)?;
        in_range("callbacks.deliveries_days", self.deliveries_days, 1, 3_650)
    }

    /// The most bytes of callbacks in memory.
    pub(crate) fn body_bytes_max(&self) -> u64 {
        u64::from(self.body_megabytes_max) << 20
    }

    /// How long settled deliveries are kept.
    pub(crate) fn deliveries_kept(&self) -> TimeDelta {
        TimeDelta::days(self.deliveries_days.into())
    }

    /// The longest a delivery attempt may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work_and_what_cannot_is_named() {
        assert!(Config::default().validate().is_ok());
        let closed = Config { in_flight_max: 0, ..Config::default() };
        assert_eq!(closed.validate().unwrap_err().to_string(), "`callbacks.in_flight_max` must be 1 to 10000, got 0");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = serde_json::from_str::<Config>(r#"{"dead_line_ms": 1}"#).unwrap_err();
        assert!(error.to_string().contains("dead_line_ms"), "{error}");
    }
}
