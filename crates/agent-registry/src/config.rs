//! What the registry is configured with.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, comma_list, in_range};
use url::Url;

/// What the registry is configured with, of its own and of others' sections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the dispatcher's internal routes are: `peers.cron_dispatcher_url`.
    pub cron_dispatcher_url: String,
    /// Where the deliverer's internal routes are: `peers.callback_deliverer_url`.
    pub callback_deliverer_url: String,
    /// How clients reach the API, for links in answers: `http.public_url`.
    pub public_url: Option<Url>,
    /// The JWKS served at `/.well-known/jwks.json`, as JSON text: `sessions.jwks`. Empty: no keys.
    pub session_jwks: String,
    /// The names in `providers`: what a mentor's `llm_provider` may be. `echo` is always one.
    pub provider_names: BTreeSet<String>,
    /// The provider of mentors that name none; one of `provider_names`.
    pub default_provider: Option<String>,
    /// How long it keeps what it has: `[registry]`.
    pub registry: RegistryConfig,
}

/// `[registry]`: how long the registry keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Days that logs are kept, where an organisation does not say.
    pub logs_days: u32,
    /// Days that the audit log goes back.
    pub audit_days: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { logs_days: 90, audit_days: 400 }
    }
}

impl RegistryConfig {
    /// Checks the section.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("registry.logs_days", self.logs_days, 1, DAYS_MAX)?;
        in_range("registry.audit_days", self.audit_days, 1, DAYS_MAX)
    }
}

/// `[sessions]`: what others check session tokens with.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// The public keys of the runners, as a JSON Web Key Set.
    pub jwks: String,
}

/// `[providers]`: which providers the runners have; how they are asked is the runners' business alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderNames {
    /// The names of the runners' providers, where the registry is a process of its own.
    #[serde(with = "comma_list")]
    #[schemars(with = "Vec<String>")]
    pub names: Vec<String>,
    /// The one of mentors that name none.
    pub default: Option<String>,
}

/// A hundred years: nobody keeps anything longer, and every calendar can count so far.
pub(crate) const DAYS_MAX: u32 = 36_500;

impl Default for Config {
    fn default() -> Self {
        Self {
            cron_dispatcher_url: "http://127.0.0.1:9090".to_owned(),
            callback_deliverer_url: "http://127.0.0.1:9090".to_owned(),
            public_url: None,
            session_jwks: String::new(),
            provider_names: BTreeSet::new(),
            default_provider: None,
            registry: RegistryConfig::default(),
        }
    }
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.dispatcher_url()?;
        self.registry.validate()?;
        self.deliverer_url()?;
        if let Err(error) = self.jwks() {
            return Err(ConfigError::setting(
                "sessions.jwks",
                format_args!("must be a JSON object with `keys`: {error}"),
            ));
        }
        match &self.default_provider {
            Some(name) if !self.has_provider(name) => {
                let problem = format_args!("must be `echo` or a name in `providers`, got `{name}`");
                Err(ConfigError::setting("providers.default", problem))
            }
            _ => Ok(()),
        }
    }

    /// Whether a provider of this name is configured, however it is spelled: settings know no case.
    #[must_use]
    pub fn has_provider(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        name == ECHO || self.provider_names.contains(&name)
    }

    /// Where the dispatcher is.
    pub(crate) fn dispatcher_url(&self) -> Result<Url, ConfigError> {
        peer_url("peers.cron_dispatcher_url", &self.cron_dispatcher_url)
    }

    /// Where the deliverer is.
    pub(crate) fn deliverer_url(&self) -> Result<Url, ConfigError> {
        peer_url("peers.callback_deliverer_url", &self.callback_deliverer_url)
    }

    /// The served key set.
    pub(crate) fn jwks(&self) -> Result<serde_json::Value, serde_json::Error> {
        if self.session_jwks.is_empty() {
            return Ok(serde_json::json!({ "keys": [] }));
        }
        let keys: JwkSet = serde_json::from_str(&self.session_jwks)?;
        serde_json::to_value(keys)
    }
}

fn peer_url(key: &str, text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| ConfigError::setting(key, format_args!("must be an http:// or https:// URL, got `{text}`")))
}

/// The provider that is built in.
const ECHO: &str = "echo";

#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_is_valid_and_serves_no_keys() {
        let config = Config::default();
        assert!(config.validate().is_ok());
        assert_eq!(config.jwks().unwrap(), serde_json::json!({ "keys": [] }));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let ours = Config { provider_names: ["ours".to_owned()].into(), ..Config::default() };
        assert!(ours.has_provider("Ours") && ours.has_provider("ECHO") && !ours.has_provider("theirs"));
        let refused = |config: Config| config.validate().unwrap_err().to_string();
        let unknown = Config { default_provider: Some("acme".into()), ..Config::default() };
        assert!(refused(unknown).contains("`providers.default`"));
        let no_keys = Config { session_jwks: "[]".into(), ..Config::default() };
        assert!(refused(no_keys).contains("`sessions.jwks`"));
        let no_http = Config { cron_dispatcher_url: "ftp://x".into(), ..Config::default() };
        assert!(refused(no_http).contains("`peers.cron_dispatcher_url`"));
    }
}
