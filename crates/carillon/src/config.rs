//! The whole configuration of an installation that is one process.
//!
//! Defaults in code, then the file, then the environment (`CARILLON__HTTP__LISTEN`), then the command line. What is not
//! set and has to be somewhere is in the data directory: databases, bus, keys.

use agent_runner::{ProvidersConfig, RunnerConfig, SessionsConfig};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cron_dispatcher::DispatcherConfig;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, AuthConfig, BusConfig, ConfigError, ConnectionUrl, DatabaseConfig, HttpConfig, InternalConfig, SecretsConfig,
    Settings, TelemetryConfig,
};
use service_kit::secrets::Secret;

use crate::cli::Place;
use crate::data_dir::DataDir;

/// Every section of every microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) http: HttpConfig,
    pub(crate) database: DatabasesConfig,
    pub(crate) bus: BusConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) secrets: SecretsConfig,
    pub(crate) sessions: SessionsConfig,
    pub(crate) internal: InternalConfig,
    pub(crate) dispatcher: DispatcherConfig,
    pub(crate) runner: RunnerConfig,
    pub(crate) providers: ProvidersConfig,
    pub(crate) callbacks: callback_deliverer::Config,
    pub(crate) services: service_registry::Config,
    pub(crate) telemetry: TelemetryConfig,
}

/// `[database]`: one database for each microservice; by default a SQLite file in the data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabasesConfig {
    pub(crate) agent_registry_url: ConnectionUrl,
    pub(crate) cron_dispatcher_url: ConnectionUrl,
    pub(crate) callback_deliverer_url: ConnectionUrl,
    pub(crate) service_registry_url: ConnectionUrl,
    /// Connections to each at most.
    pub(crate) pool_size: u32,
}

impl Default for DatabasesConfig {
    fn default() -> Self {
        let none = ConnectionUrl::default;
        Self {
            agent_registry_url: none(),
            cron_dispatcher_url: none(),
            callback_deliverer_url: none(),
            service_registry_url: none(),
            pool_size: DatabaseConfig::default().pool_size,
        }
    }
}

impl DatabasesConfig {
    /// The configuration of one of them.
    pub(crate) fn of(&self, url: &ConnectionUrl) -> DatabaseConfig {
        DatabaseConfig { url: url.clone(), pool_size: self.pool_size }
    }
}

impl Settings for Config {
    /// Checks what does not depend on the data directory; [`Config::complete`] checks the rest.
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.dispatcher.validate()?;
        self.runner.validate()?;
        self.providers.validate()?;
        self.callbacks.validate()?;
        self.telemetry.validate()
    }
}

impl Config {
    /// Reads all layers.
    pub(crate) fn load(place: &Place, overrides: Vec<(String, String)>) -> Result<Self, ConfigError> {
        config::load(place.config.as_deref(), config::process_environment(), overrides)
    }

    /// Fills in what the data directory has, making keys on the first start, and checks the whole.
    pub(crate) fn complete(mut self, data: &DataDir) -> anyhow::Result<Self> {
        let file = |name: &str| ConnectionUrl::new(format!("sqlite:{}", data.join(name).display()));
        let databases = [
            (&mut self.database.agent_registry_url, "agent-registry.db"),
            (&mut self.database.cron_dispatcher_url, "cron-dispatcher.db"),
            (&mut self.database.callback_deliverer_url, "callback-deliverer.db"),
            (&mut self.database.service_registry_url, "service-registry.db"),
            (&mut self.bus.url, "bus.db"),
        ];
        for (url, name) in databases {
            if url.is_empty() {
                *url = file(name);
            }
        }
        self.with_keys_of(data)
    }

    /// Fills in the keys that are not configured, making them on the first start.
    pub(crate) fn with_keys_of(mut self, data: &DataDir) -> anyhow::Result<Self> {
        fill(&mut self.auth.jwt_secret, data, "jwt-secret", || Ok(random_key()))?;
        fill(&mut self.secrets.keys, data, "secrets-keys", || Ok(format!("k1:{}", random_key())))?;
        fill(&mut self.internal.key, data, "internal-key", || Ok(random_key()))?;
        fill(&mut self.sessions.key, data, "session-key.pem", || {
            Ok(agent_runner::generate_session_key()?.private_pem.into_inner())
        })?;
        self.auth.validate()?;
        self.secrets.validate()?;
        self.internal.validate()?;
        self.sessions.validate()?;
        Ok(self)
    }
}

/// A key that is not configured is the data directory's.
fn fill(
    key: &mut Secret<String>,
    data: &DataDir,
    name: &str,
    make: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    if key.is_empty() {
        *key = Secret::new(data.key(name, make)?);
    }
    Ok(())
}

/// 32 random bytes, as text.
fn random_key() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    STANDARD.encode(bytes)
}
