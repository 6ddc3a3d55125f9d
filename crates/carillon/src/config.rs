//! The whole configuration of an installation that is one process.
//!
//! Defaults in code, then the file, then the environment (`CARILLON__HTTP__LISTEN`), then the command line. What is not
//! set and has to be somewhere is in the data directory: databases, bus, keys.

use agent_runner::{ProvidersConfig, RunnerConfig, SessionsConfig};
use std::path::PathBuf;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cron_dispatcher::DispatcherConfig;
use rand::RngCore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, AuthConfig, BusConfig, ConfigError, ConnectionUrl, DatabaseConfig, HttpConfig, InternalConfig, SecretsConfig,
    Settings, TelemetryConfig,
};
use service_kit::database::{check_url, sqlite_file};
use service_kit::secrets::Secret;

use crate::cli::Place;
use crate::data_dir::{DATABASES, DataDir};

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
    pub(crate) registry: agent_registry::RegistryConfig,
    pub(crate) dispatcher: DispatcherConfig,
    pub(crate) runner: RunnerConfig,
    pub(crate) providers: ProvidersConfig,
    pub(crate) callbacks: callback_deliverer::Config,
    pub(crate) services: service_registry::Config,
    pub(crate) telemetry: TelemetryConfig,
}

/// `[database]`: one database for each microservice; by default a SQLite file in the data directory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabasesConfig {
    /// The registry's, by default a SQLite file in the data directory.
    #[schemars(with = "String")]
    pub(crate) agent_registry_url: ConnectionUrl,
    /// The dispatcher's, as above.
    #[schemars(with = "String")]
    pub(crate) cron_dispatcher_url: ConnectionUrl,
    /// The deliverer's, as above.
    #[schemars(with = "String")]
    pub(crate) callback_deliverer_url: ConnectionUrl,
    /// The service registry's, as above.
    #[schemars(with = "String")]
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
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, url) in [
            ("database.agent_registry_url", &self.agent_registry_url),
            ("database.cron_dispatcher_url", &self.cron_dispatcher_url),
            ("database.callback_deliverer_url", &self.callback_deliverer_url),
            ("database.service_registry_url", &self.service_registry_url),
        ] {
            check_url(url).map_err(|problem| ConfigError::setting(key, problem))?;
            self.of(url).validate()?;
        }
        Ok(())
    }

    /// The configuration of one of them.
    pub(crate) fn of(&self, url: &ConnectionUrl) -> DatabaseConfig {
        DatabaseConfig { url: url.clone(), pool_size: self.pool_size }
    }
}

impl Settings for Config {
    /// Checks what does not depend on the data directory; [`Config::complete`] checks the rest.
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.registry.validate()?;
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
    pub(crate) fn complete(self, data: &DataDir) -> anyhow::Result<Self> {
        self.with_files_of(data)?.with_keys_of(data)
    }

    /// As [`complete`](Self::complete), but makes nothing. Returns also which keys a first start would make: in their
    /// place are others, made for the checks alone.
    pub(crate) fn preview(self, data: &DataDir) -> anyhow::Result<(Self, Vec<&'static str>)> {
        let mut missing = Vec::new();
        let config = self.with_files_of(data)?.with_keys(|key| {
            Ok(match data.find_key(key.file)? {
                Some(found) => found,
                None => {
                    missing.push(key.setting);
                    (key.make)()?
                }
            })
        })?;
        Ok((config, missing))
    }

    /// Who signs tokens: as configured, else with the key that the data directory has already. A key made for a token
    /// would be that of no running Carillon.
    pub(crate) fn auth_of(mut self, data: &DataDir) -> anyhow::Result<AuthConfig> {
        if self.auth.jwt_secret.is_empty() {
            self.auth.jwt_secret = key_that_is_there(&JWT_SECRET, data, "signs tokens")?;
        }
        self.auth.validate()?;
        Ok(self.auth)
    }

    /// What opens internal routes: as configured, else the key that the data directory has already.
    pub(crate) fn internal_of(mut self, data: &DataDir) -> anyhow::Result<InternalConfig> {
        if self.internal.key.is_empty() {
            self.internal.key = key_that_is_there(&INTERNAL_KEY, data, "opens internal routes")?;
        }
        self.internal.validate()?;
        Ok(self.internal)
    }

    /// A database that is there: `url`, else as configured, else the data directory's.
    pub(crate) fn database_that_is_there(
        self,
        url: Option<&str>,
        data: &DataDir,
        which: impl FnOnce(DatabasesConfig) -> ConnectionUrl,
    ) -> anyhow::Result<DatabaseConfig> {
        let database = match url.filter(|url| !url.is_empty()) {
            Some(url) => DatabaseConfig { url: ConnectionUrl::new(url.to_owned()), ..DatabaseConfig::default() },
            None => {
                let databases = self.with_files_of(data)?.database;
                let pool_size = databases.pool_size;
                DatabaseConfig { url: which(databases), pool_size }
            }
        };
        if let Some(file) = sqlite_file(database.url.expose())
            && !std::path::Path::new(file).exists()
        {
            bail!("there is no {file}: name the data directory with --data-dir, or the database with --url");
        }
        Ok(database)
    }

    /// The files of the data directory's databases, by name, in the order of [`DATABASES`].
    pub(crate) fn own_databases(self, data: &DataDir) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
        let databases = self.with_files_of(data)?.database;
        let urls = [
            databases.cron_dispatcher_url,
            databases.callback_deliverer_url,
            databases.service_registry_url,
            databases.agent_registry_url,
        ];
        let file = |(name, url): (&'static str, ConnectionUrl)| match sqlite_file(url.expose()) {
            Some(path) => Ok((name, PathBuf::from(path))),
            None => bail!("{name} is on a server: back that up with its own tools, as pg_dump"),
        };
        DATABASES.into_iter().zip(urls).map(file).collect()
    }

    /// Fills in databases and bus.
    fn with_files_of(mut self, data: &DataDir) -> anyhow::Result<Self> {
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
        self.database.validate()?;
        self.bus.validate()?;
        Ok(self)
    }

    /// Fills in the keys that are not configured, making them on the first start.
    pub(crate) fn with_keys_of(self, data: &DataDir) -> anyhow::Result<Self> {
        self.with_keys(|key| data.key(key.file, key.make))
    }

    fn with_keys(mut self, mut find: impl FnMut(&Key) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let secrets = [
            (&mut self.auth.jwt_secret, JWT_SECRET),
            (&mut self.secrets.keys, SECRETS_KEYS),
            (&mut self.internal.key, INTERNAL_KEY),
            (&mut self.sessions.key, SESSION_KEY),
        ];
        for (secret, key) in secrets {
            if secret.is_empty() {
                *secret = Secret::new(find(&key)?);
            }
        }
        self.auth.validate()?;
        self.secrets.validate()?;
        self.internal.validate()?;
        self.sessions.validate()?;
        Ok(self)
    }
}

/// A key that is the data directory's unless it is configured.
struct Key {
    setting: &'static str,
    file: &'static str,
    make: fn() -> anyhow::Result<String>,
}

const JWT_SECRET: Key = Key { setting: "auth.jwt_secret", file: "jwt-secret", make: || Ok(random_key()) };
const SECRETS_KEYS: Key =
    Key { setting: "secrets.keys", file: "secrets-keys", make: || Ok(format!("k1:{}", random_key())) };
const INTERNAL_KEY: Key = Key { setting: "internal.key", file: "internal-key", make: || Ok(random_key()) };
const SESSION_KEY: Key = Key {
    setting: "sessions.key",
    file: "session-key.pem",
    make: || Ok(agent_runner::generate_session_key()?.private_pem.into_inner()),
};

/// A key that the data directory has; none is made.
fn key_that_is_there(key: &Key, data: &DataDir, does: &str) -> anyhow::Result<Secret<String>> {
    let missing = || {
        let path = data.keys().join(key.file);
        let help = "start `carillon up` there first, or name its data directory with --data-dir";
        format!("there is no {}, which {does}: {help}", path.display())
    };
    Ok(Secret::new(data.find_key(key.file)?.with_context(missing)?))
}

/// 32 random bytes, as text.
fn random_key() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    STANDARD.encode(bytes)
}
