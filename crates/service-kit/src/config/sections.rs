//! The sections that microservices share.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{ConfigError, ConnectionUrl, comma_list};
use crate::secrets::{KeyRing, Secret};

/// The shortest secret that HS256 takes as a key (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// `[http]`: where the microservice listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// The public API.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Health, metrics and internal routes: never reachable from outside.
    #[schemars(with = "String")]
    pub admin_listen: SocketAddr,
    /// How clients reach `listen`, for links in answers; by default the `Host` that they name. Needed behind a proxy:
    /// what headers such as `X-Forwarded-Host` say is not believed.
    #[schemars(with = "Option<String>")]
    pub public_url: Option<Url>,
    /// The largest request body: by default room for the longest texts that the API takes, however they are escaped.
    pub body_bytes_max: usize,
    /// The web pages that may call the API from a browser, by their origins (`https://app.example`); `*`: all. By
    /// default none.
    #[serde(with = "comma_list")]
    #[schemars(with = "Vec<String>")]
    pub cors_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin_listen: (Ipv4Addr::LOCALHOST, 9090).into(),
            public_url: None,
            body_bytes_max: 4 * 1024 * 1024,
            cors_origins: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            let problem = format!("must differ from `http.listen`, both are {}", self.listen);
            return Err(ConfigError::setting("http.admin_listen", problem));
        }
        if let Some(url) = self.public_url.as_ref().filter(|url| !matches!(url.scheme(), "http" | "https")) {
            return Err(ConfigError::setting("http.public_url", format!("must be http:// or https://, got {url}")));
        }
        for origin in self.cors_origins.iter().filter(|origin| *origin != "*") {
            let is_origin = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !is_origin {
                let problem = format!("must be origins such as https://app.example, or *, got `{origin}`");
                return Err(ConfigError::setting("http.cors_origins", problem));
            }
        }
        in_range("http.body_bytes_max", self.body_bytes_max, 1024, 1024 * 1024 * 1024)
    }
}

/// `[database]`: where the microservice keeps what it owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite:path/to/file.db` or `postgres://user:password@host/database`.
    #[schemars(with = "String")]
    pub url: ConnectionUrl,
    /// Connections at most.
    pub pool_size: u32,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: ConnectionUrl::default(), pool_size: 4 }
    }
}

impl DatabaseConfig {
    /// Checks the section; whether the URL leads anywhere shows when it is opened.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.url.is_empty() {
            return Err(ConfigError::setting("database.url", "must be set: sqlite:<file> or postgres://…"));
        }
        in_range("database.pool_size", self.pool_size, 1, 100)
    }
}

/// `[bus]`: what carries messages between the microservices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `sqlite:path/to/file.db`, for one process, or `amqp://user:password@host` and `amqps://…`.
    #[schemars(with = "String")]
    pub url: ConnectionUrl,
}

impl BusConfig {
    /// Checks the section; whether the URL leads anywhere shows when it is opened.
    ///
    /// # Errors
    ///
    /// A URL that is missing, or names no bus.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let url = self.url.expose();
        let is_amqp = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "amqp" | "amqps"));
        if is_amqp || url.starts_with("sqlite:") {
            return Ok(());
        }
        let got = if url.is_empty() { "nothing".to_owned() } else { self.url.redacted() };
        Err(ConfigError::setting("bus.url", format_args!("must be amqp://…, amqps://… or sqlite:<file>, got {got}")))
    }
}

/// `[peers]`: where the other microservices' admin listeners are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// The dispatcher's.
    pub cron_dispatcher_url: String,
    /// The deliverer's.
    pub callback_deliverer_url: String,
    /// The service registry's.
    pub service_registry_url: String,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            cron_dispatcher_url: "http://cron-dispatcher:9090".to_owned(),
            callback_deliverer_url: "http://callback-deliverer:9090".to_owned(),
            service_registry_url: "http://service-registry:9090".to_owned(),
        }
    }
}

/// `[auth]`: whom the API believes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The secret that tokens are signed with (HS256).
    #[schemars(with = "String")]
    pub jwt_secret: Secret<String>,
    /// Where an identity provider has its public keys (RS256, ES256, EdDSA), as a JSON Web Key Set: `https://…`,
    /// `http://…` or `file:///…`.
    #[schemars(with = "Option<String>")]
    pub jwks_url: Option<Url>,
    /// The `iss` that every token must have, if set.
    pub issuer: Option<String>,
    /// The `aud` that every token must have, if set.
    pub audience: Option<String>,
    /// How far the issuer's clock may be off.
    pub leeway_seconds: u32,
    /// What the claims are called.
    pub claims: ClaimsConfig,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: Secret::default(),
            jwks_url: None,
            issuer: None,
            audience: None,
            leeway_seconds: 30,
            claims: ClaimsConfig::default(),
        }
    }
}

impl AuthConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // With an identity provider nobody needs to share a secret.
        if self.jwks_url.is_none() || !self.jwt_secret.is_empty() {
            long_enough("auth.jwt_secret", &self.jwt_secret)?;
        }
        let usable = |url: &Url| match url.scheme() {
            "https" | "http" => true,
            "file" => url.to_file_path().is_ok(),
            _ => false,
        };
        if let Some(url) = self.jwks_url.as_ref().filter(|url| !usable(url)) {
            let problem = format_args!("must be https://…, http://… or file:///…, got `{}:`", url.scheme());
            return Err(ConfigError::setting("auth.jwks_url", problem));
        }
        in_range("auth.leeway_seconds", self.leeway_seconds, 0, 3600)
    }

    /// [`leeway_seconds`](Self::leeway_seconds) as a duration.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.leeway_seconds.into())
    }
}

/// `[auth.claims]`: what an identity provider calls its claims; dots lead into objects (`realm_access.roles`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsConfig {
    /// The organisation.
    pub org: String,
    /// The roles: a list, or one string.
    pub roles: String,
}

impl Default for ClaimsConfig {
    fn default() -> Self {
        Self { org: "org".to_owned(), roles: "roles".to_owned() }
    }
}

/// `[secrets]`: the keys that seal secrets at rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// `id:key,id:key`, each key 32 bytes in base64: the first seals, all open.
    #[schemars(with = "String")]
    pub keys: Secret<String>,
}

impl SecretsConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// No key, or one that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        KeyRing::parse(self).map(|_| ())
    }
}

/// `[internal]`: how microservices know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InternalConfig {
    /// At least 32 characters, the same for all microservices, and not the public `auth.jwt_secret`.
    #[schemars(with = "String")]
    pub key: Secret<String>,
}

impl InternalConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// A key that is missing or too short.
    pub fn validate(&self) -> Result<(), ConfigError> {
        long_enough("internal.key", &self.key)
    }
}

/// `[callbacks]`: which addresses that are not public Carillon may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// Networks such as `10.1.0.0/16`, or `127.0.0.0/8` and `::1/128` for receivers on this host.
    #[serde(with = "comma_list")]
    #[schemars(with = "Vec<String>")]
    pub allow_networks: Vec<IpNet>,
}

impl EgressConfig {
    /// Checks the section: what parsed can work.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// `[telemetry]`: what is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// A level, or directives such as `info,cron_dispatcher=debug`. By default `info`, of the web framework only
    /// warnings (`actix_server=warn`), and nothing of what clients send that is no HTTP (`actix_http=off`).
    pub log: String,
    /// The form of each line.
    pub format: LogFormat,
    /// Where traces go: an OpenTelemetry collector that takes OTLP over HTTP, as `http://otel-collector:4318`; spans are
    /// sent to `/v1/traces` there. By default there are none. Headers that it wants, as a key, are taken from
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    #[schemars(with = "Option<String>")]
    pub otlp_endpoint: Option<Url>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info,actix_server=warn,actix_http=off".to_owned(), format: LogFormat::Auto, otlp_endpoint: None }
    }
}

impl TelemetryConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// A filter that is not understood, or an endpoint that is none.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.filter()?;
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        let is_plain = endpoint.username().is_empty() && endpoint.password().is_none() && endpoint.query().is_none();
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() || !is_plain {
            let problem = "must be http://host:port or https://…, without a user, a password or a query: credentials go \
                           into OTEL_EXPORTER_OTLP_HEADERS";
            return Err(ConfigError::setting("telemetry.otlp_endpoint", problem));
        }
        Ok(())
    }

    /// [`log`](Self::log), parsed.
    pub(crate) fn filter(&self) -> Result<tracing_subscriber::EnvFilter, ConfigError> {
        self.log.parse().map_err(|error| {
            ConfigError::setting("telemetry.log", format_args!("is not understood ({error}), got `{}`", self.log))
        })
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// Refuses a value of `key` outside of `min` to `max`.
///
/// # Errors
///
/// One line that names key and value.
pub fn in_range<N: PartialOrd + std::fmt::Display>(key: &str, value: N, min: N, max: N) -> Result<(), ConfigError> {
    if value < min || value > max {
        return Err(ConfigError::setting(key, format_args!("must be {min} to {max}, got {value}")));
    }
    Ok(())
}

/// A signing secret of enough bytes; the error tells the length, never the value.
fn long_enough(key: &str, secret: &Secret<String>) -> Result<(), ConfigError> {
    match secret.expose().len() {
        0 => Err(ConfigError::setting(key, "must be set: for example the output of `openssl rand -base64 32`")),
        length if length < SECRET_BYTES_MIN => {
            Err(ConfigError::setting(key, format_args!("must be at least {SECRET_BYTES_MIN} bytes long, got {length}")))
        }
        _ => Ok(()),
    }
}
