//! Which provider a mentor means: one of its own, or one of the configuration.
//!
//! What is the operator's and what is a tenant's never mix: a URL that a mentor brings gets the mentor's own API key and
//! headers; a configured URL gets the mentor's own API key or else the configured one, and no headers of the mentor,
//! which might speak to the operator's server in the operator's name.

use std::sync::Arc;

use model::document;
use service_kit::secrets::Secret;

use crate::config::{ProviderConfig, ProvidersConfig};
use crate::provider::{ECHO, ModelSettings, Provider, Providers, UrlOwner};

/// All providers of this runner.
pub(crate) struct Directory {
    kinds: Providers,
    config: ProvidersConfig,
}

/// Whom a mentor means, and how to ask.
pub(crate) struct Target {
    pub(crate) kind: String,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) settings: ModelSettings,
    /// For a mentor that has none of its own.
    pub(crate) api_key: Option<Secret<String>>,
    /// A line for the log, where the mentor does not say all of it itself.
    pub(crate) place: Option<String>,
}

impl Directory {
    pub(crate) fn new(kinds: Providers, config: ProvidersConfig) -> Self {
        Self { kinds, config }
    }

    /// The provider that a mentor means.
    ///
    /// # Errors
    ///
    /// There is none here: what to set, for the run's log.
    pub(crate) fn find(&self, asked: &document::Provider) -> Result<Target, String> {
        let name = asked.name.to_lowercase();
        let configured = self.config.named.get(&name);
        if !asked.base_url.is_empty() {
            let kind = if asked.kind.is_empty() { configured.map(|found| &found.kind) } else { Some(&asked.kind) };
            return self.own(kind.ok_or_else(|| unknown(asked))?, asked);
        }
        if let Some(found) = configured {
            return self.configured(&name, found, asked);
        }
        if !asked.kind.is_empty() {
            return self.own(&asked.kind, asked);
        }
        if name.is_empty() {
            return self.default(asked);
        }
        if name == ECHO { self.own(ECHO, asked) } else { Err(unknown(asked)) }
    }

    fn default(&self, asked: &document::Provider) -> Result<Target, String> {
        let name = self.config.default.as_ref().ok_or_else(|| unknown(asked))?;
        match self.config.named.get(name) {
            Some(found) => self.configured(name, found, asked),
            None => self.own(name, asked),
        }
    }

    /// As the mentor says itself.
    fn own(&self, kind: &str, asked: &document::Provider) -> Result<Target, String> {
        let settings = ModelSettings {
            base_url: asked.base_url.clone(),
            url_owner: UrlOwner::Tenant,
            model: asked.model.clone(),
            headers: asked.headers.clone(),
            ..limits(asked)
        };
        Ok(Target { kind: kind.to_owned(), provider: self.provider(kind)?, settings, api_key: None, place: None })
    }

    /// As the configuration says; model and limits are the mentor's, where it says them.
    fn configured(&self, name: &str, found: &ProviderConfig, asked: &document::Provider) -> Result<Target, String> {
        let kind = &found.kind;
        if !asked.kind.is_empty() && asked.kind != *kind {
            let asked = &asked.kind;
            return Err(format!("the mentor's `provider.kind` is `{asked}`, and `providers.{name}.kind` is `{kind}`"));
        }
        let model = if asked.model.is_empty() { &found.model } else { &asked.model };
        let settings = ModelSettings {
            base_url: found.base_url.clone(),
            url_owner: UrlOwner::Operator,
            model: model.clone(),
            ..limits(asked)
        };
        let unsent = if asked.headers.is_empty() { "" } else { "; the mentor's own headers are not sent there" };
        Ok(Target {
            kind: kind.clone(),
            provider: self.provider(kind)?,
            settings,
            api_key: Some(found.api_key.clone()).filter(|key| !key.is_empty()),
            place: Some(format!("provider `{name}` of the configuration: `{kind}`{unsent}")),
        })
    }

    fn provider(&self, kind: &str) -> Result<Arc<dyn Provider>, String> {
        self.kinds.get(kind).cloned().ok_or_else(|| {
            let known: Vec<_> = self.kinds.keys().map(String::as_str).collect();
            format!("the mentor's `provider.kind` is `{kind}`, and this runner has only: {}", known.join(", "))
        })
    }
}

fn limits(asked: &document::Provider) -> ModelSettings {
    ModelSettings {
        temperature: asked.temperature,
        max_output_tokens: asked.max_output_tokens,
        ..ModelSettings::default()
    }
}

fn unknown(asked: &document::Provider) -> String {
    match &asked.name {
        name if name.is_empty() => {
            "the mentor has no provider: set its `provider.kind`, or `providers.default`".to_owned()
        }
        name => {
            let setting = format!("providers.{}.kind", name.to_lowercase());
            format!("the mentor's provider is `{name}`, and `{setting}` is not configured at the runner")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use service_kit::clock::Clock;
    use service_kit::egress::Guard;

    use super::*;
    use crate::provider::{Transport, built_in};

    fn directory() -> Directory {
        let clock = Clock::manual("2026-11-21T10:00:00Z".parse().unwrap());
        let transport = Transport::new(clock, &Guard::new(Vec::new())).unwrap();
        let hosted = ProviderConfig {
            kind: "openai".into(),
            base_url: "http://10.0.0.1/v1".into(),
            api_key: "operators".to_owned().into(),
            model: "small".into(),
        };
        let named = BTreeMap::from([("hosted".to_owned(), hosted)]);
        Directory::new(built_in(&Arc::new(transport)), ProvidersConfig { default: Some("hosted".into()), named })
    }

    fn found(asked: &document::Provider) -> Target {
        directory().find(asked).unwrap_or_else(|error| panic!("{error}"))
    }

    fn asked(name: &str, kind: &str, base_url: &str) -> document::Provider {
        let headers = BTreeMap::from([("x-team".to_owned(), "a".to_owned())]);
        let (name, kind, base_url) = (name.into(), kind.into(), base_url.into());
        document::Provider { name, kind, base_url, headers, temperature: Some(0.5), ..document::Provider::default() }
    }

    #[test]
    fn a_configured_provider_brings_its_url_its_key_and_its_model_but_takes_no_headers() {
        for asked in [asked("Hosted", "", ""), asked("hosted", "openai", ""), asked("", "", "")] {
            let target = found(&asked);
            assert_eq!((target.kind.as_str(), target.settings.model.as_str()), ("openai", "small"));
            assert_eq!(target.settings.base_url, "http://10.0.0.1/v1");
            assert_eq!(target.settings.url_owner, UrlOwner::Operator);
            assert_eq!(target.settings.temperature, Some(0.5));
            assert_eq!(target.api_key.unwrap().expose(), "operators");
            assert!(target.settings.headers.is_empty());
            let place = target.place.unwrap();
            assert!(place.contains("`hosted`") && place.contains("headers are not sent"), "{place}");
        }
        let larger = document::Provider { model: "large".into(), ..asked("hosted", "", "") };
        assert_eq!(found(&larger).settings.model, "large");
    }

    #[test]
    fn the_operators_key_never_goes_to_a_url_that_a_mentor_brings() {
        for asked in [asked("hosted", "", "https://evil.example"), asked("hosted", "openai", "https://evil.example")] {
            let target = found(&asked);
            assert_eq!((target.kind.as_str(), target.settings.base_url.as_str()), ("openai", "https://evil.example"));
            assert!(target.api_key.is_none() && target.settings.model.is_empty());
            assert_eq!(target.settings.url_owner, UrlOwner::Tenant);
            assert_eq!(target.settings.headers.len(), 1);
        }
    }

    #[test]
    fn a_name_that_is_not_configured_is_only_a_label_beside_a_kind() {
        assert_eq!(found(&asked("my own", "http", "https://a.example")).kind, "http");
        assert_eq!(found(&asked("my own", "echo", "")).kind, "echo");
        assert_eq!(found(&asked("Echo", "", "")).kind, "echo");
    }

    #[test]
    fn what_cannot_be_found_is_told_with_what_to_set() {
        for (asked, expected) in [
            (asked("Azure", "", ""), "is `Azure`, and `providers.azure.kind` is not configured"),
            (asked("", "", "https://a.example"), "set its `provider.kind`, or `providers.default`"),
            (asked("hosted", "http", ""), "is `http`, and `providers.hosted.kind` is `openai`"),
            (asked("", "pigeon", ""), "is `pigeon`, and this runner has only: echo, http, openai"),
        ] {
            let error = directory().find(&asked).err().unwrap_or_default();
            assert!(error.contains(expected), "{error}");
        }
    }
}
