//! `[runner]`, `[sessions]` and `[providers]`: how much is asked at once, by which key sessions are signed, and the
//! providers that mentors may name.

mod providers;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, PeersConfig};
use service_kit::secrets::Secret;

pub use self::providers::{ProviderConfig, ProvidersConfig};
use crate::session::SessionMinter;

/// The most runs in flight that a runner may be set to: what a bus hands out at most to one consumer.
const CONCURRENCY_MAX: usize = 65_535;

/// The most seconds that shutting down may be given.
const DRAIN_SECONDS_MAX: u64 = 3_600;

/// All that the runner reads from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[runner]`.
    pub runner: RunnerConfig,
    /// `[sessions]`.
    pub sessions: SessionsConfig,
    /// `[providers]`.
    pub providers: ProvidersConfig,
    /// `[peers]`: where the service registry is.
    pub peers: PeersConfig,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.runner.validate()?;
        self.sessions.validate()?;
        self.providers.validate()
    }
}

/// `[runner]`: how mentors are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunnerConfig {
    /// Most runs in flight at a time.
    pub concurrency: usize,
    /// Seconds that runs in flight are given to end when the process is asked to stop.
    pub drain_seconds: u64,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self { concurrency: 64, drain_seconds: 30 }
    }
}

impl RunnerConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key and value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let problem = format!("must be 1-{CONCURRENCY_MAX}, got {}", self.concurrency);
            return Err(ConfigError::setting("runner.concurrency", problem));
        }
        if self.drain_seconds > DRAIN_SECONDS_MAX {
            let problem = format!("must be 0-{DRAIN_SECONDS_MAX}, got {}", self.drain_seconds);
            return Err(ConfigError::setting("runner.drain_seconds", problem));
        }
        Ok(())
    }

    /// How long runs in flight are given to end.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// `[sessions]`: the tokens that runs act with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// The Ed25519 key that signs session tokens: PKCS#8 as PEM, or its DER as base64. Only runners have it.
    #[schemars(with = "String")]
    pub key: Secret<String>,
    /// The `iss` of session tokens.
    pub issuer: String,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self { key: Secret::default(), issuer: "carillon".to_owned() }
    }
}

impl SessionsConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.issuer.is_empty() {
            return Err(ConfigError::setting(
                "sessions.issuer",
                "must not be empty: it is the `iss` of session tokens",
            ));
        }
        SessionMinter::new(self).map(drop)
    }
}
