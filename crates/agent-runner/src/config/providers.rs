//! `[providers.<name>]`: providers that mentors may name, and the default one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use service_kit::config::ConfigError;
use service_kit::secrets::Secret;
use url::Url;

use crate::provider::{BUILT_IN_KINDS, ECHO};

/// The key in `[providers]` that is no name.
const DEFAULT: &str = "default";

/// `[providers]`: what mentors may name. Names mean the same in any case; the environment knows only one.
///
/// Where these answer is the operator's own choice: unlike the URLs of mentors, they may be anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProvidersConfig {
    /// Whom mentors ask that say neither whom nor how: a name in `named`, or `echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The providers, by their names in lower case.
    #[serde(flatten)]
    pub named: BTreeMap<String, ProviderConfig>,
}

/// `[providers.<name>]`: one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// How it is asked: `openai`, `http` or `echo`.
    pub kind: String,
    /// Where it answers.
    pub base_url: String,
    /// Its API key, for mentors that have none of their own.
    #[schemars(with = "String")]
    pub api_key: Secret<String>,
    /// The model of mentors that name none.
    pub model: String,
}

impl ProvidersConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, provider) in &self.named {
            provider.validate(name)?;
        }
        match &self.default {
            Some(name) if name != ECHO && !self.named.contains_key(name) => {
                let problem = format!("must be `{ECHO}` or a name in `providers`, got `{name}`");
                Err(ConfigError::setting("providers.default", problem))
            }
            _ => Ok(()),
        }
    }

    /// The names that a mentor's `llm_provider` may be.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.named.keys().cloned().collect()
    }
}

impl ProviderConfig {
    fn validate(&self, name: &str) -> Result<(), ConfigError> {
        let refused =
            |key: &str, problem: String| Err(ConfigError::setting(&format!("providers.{name}{key}"), problem));
        if name == ECHO {
            return refused("", "must not be set: `echo` is built in, choose another name".to_owned());
        }
        if !BUILT_IN_KINDS.contains(&self.kind.as_str()) {
            return refused(".kind", format!("must be one of {}, got `{}`", BUILT_IN_KINDS.join(", "), self.kind));
        }
        if self.kind == ECHO {
            return Ok(());
        }
        // Not repeated in the error: where a credential is not expected, it may well stand.
        match Url::parse(&self.base_url) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                refused(".base_url", format!("must hold no user or password: set `providers.{name}.api_key`"))
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
            _ => refused(".base_url", "must be an http:// or https:// URL".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for ProvidersConfig {
    /// Every key but `default` is a name. Not derived: flattening would lose which key is at fault.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionVisitor)
    }
}

struct SectionVisitor;

impl<'de> Visitor<'de> for SectionVisitor {
    type Value = ProvidersConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("providers by name, and `default`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut section: A) -> Result<ProvidersConfig, A::Error> {
        let mut config = ProvidersConfig::default();
        while let Some(key) = section.next_key::<String>()? {
            let name = key.to_lowercase();
            if name == DEFAULT {
                config.default = Some(section.next_value::<String>()?.to_lowercase());
            } else if config.named.insert(name.clone(), section.next_value()?).is_some() {
                let problem = format_args!("`providers.{name}` is there twice: case does not matter in names");
                return Err(A::Error::custom(problem));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::config::{Settings, effective, load};

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Whole {
        providers: ProvidersConfig,
    }

    impl Settings for Whole {
        fn validate(&self) -> Result<(), ConfigError> {
            self.providers.validate()
        }
    }

    fn from_environment(variables: &[(&str, &str)]) -> Result<Whole, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(None, variables, []).map_err(|error| error.to_string())
    }

    #[test]
    fn providers_and_the_default_one_come_from_the_environment_and_show_no_key() {
        let whole = from_environment(&[
            ("CARILLON__PROVIDERS__OpenAI__KIND", "openai"),
            ("CARILLON__PROVIDERS__OPENAI__BASE_URL", "https://api.example/v1"),
            ("CARILLON__PROVIDERS__OPENAI__API_KEY", "sk-123"),
            ("CARILLON__PROVIDERS__MINE__KIND", "echo"),
            ("CARILLON__PROVIDERS__DEFAULT", "OpenAI"),
        ])
        .unwrap();
        assert_eq!(whole.providers.default.as_deref(), Some("openai"));
        assert_eq!(Vec::from_iter(whole.providers.names()), ["mine", "openai"]);
        assert_eq!(whole.providers.named["openai"].api_key.expose(), "sk-123");

        let shown = effective(&whole).unwrap();
        assert!(shown.contains("default = \"openai\"") && shown.contains("[providers.openai]"), "{shown}");
        assert!(!shown.contains("sk-123"), "{shown}");
    }

    #[test]
    fn nothing_is_configured_by_default() {
        assert_eq!(from_environment(&[]).unwrap().providers, ProvidersConfig::default());
        assert!(effective(&Whole::default()).is_ok());
    }

    #[test]
    fn names_in_a_file_mean_the_same_in_any_case_and_not_two_things() {
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            load::<Whole>(Some(file.path()), [], []).map_err(|error| error.to_string())
        };
        let whole = read("[providers]\ndefault = 'MINE'\n[providers.Mine]\nkind = 'echo'").unwrap();
        assert_eq!(whole.providers.default.as_deref(), Some("mine"));
        let error = read("[providers.Mine]\nkind = 'echo'\n[providers.mine]\nkind = 'echo'").unwrap_err();
        assert!(error.contains("`providers.mine` is there twice"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key_and_no_credential_is_repeated() {
        let url = "CARILLON__PROVIDERS__X__BASE_URL";
        for (variables, expected) in [
            (&[("CARILLON__PROVIDERS__X__KIND", "pigeon")][..], "`providers.x.kind` must be one of echo, http, openai"),
            (&[(url, "https://x")], "`providers.x.kind` must be one of echo, http, openai, got ``"),
            (
                &[("CARILLON__PROVIDERS__X__KIND", "openai")],
                "`providers.x.base_url` must be an http:// or https:// URL",
            ),
            (&[("CARILLON__PROVIDERS__X__KIND", "http"), (url, "ftp://t0ps3cret/")], "`providers.x.base_url` must be"),
            (
                &[("CARILLON__PROVIDERS__X__KIND", "http"), (url, "https://u:t0ps3cret@h/")],
                "`providers.x.base_url` must hold no user or password: set `providers.x.api_key`",
            ),
            (&[("CARILLON__PROVIDERS__ECHO__KIND", "openai")], "`providers.echo` must not be set"),
            (&[("CARILLON__PROVIDERS__DEFAULT", "x")], "`providers.default` must be `echo` or a name in `providers`"),
            (&[("CARILLON__PROVIDERS__X__KEY", "1")], "unknown field `key`"),
        ] {
            let error = from_environment(variables).unwrap_err();
            assert!(error.contains(expected) && !error.contains("t0ps3cret"), "{error}");
        }
        assert!(from_environment(&[("CARILLON__PROVIDERS__DEFAULT", "echo")]).is_ok());
    }
}
