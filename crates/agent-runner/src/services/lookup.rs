//! Which services may a run call? The service registry knows.
//!
//! It is asked over internal HTTP, with the run's own session token, so that a runner learns no more than the run may
//! see. It is asked once for all runs of the same user with the same groups within half a minute ([`super::kept`]); so long
//! may a service be called that was taken out of a group meanwhile. While it is away, runs do without services.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use model::service::{CallableService, CallableServices, CallableServicesRequest, ServiceField};
use model::wire::Wire;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;
use service_kit::error::chain;
use service_kit::secrets::Secret;
use url::Url;
use uuid::Uuid;

use super::kept::{Answer, Kept};

/// Whom internal and session tokens are for.
pub(crate) const SERVICE_REGISTRY: &str = "service-registry";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who asks, for what: those with the same key may call the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) organisation: String,
    pub(crate) username: String,
    pub(crate) groups: Vec<Uuid>,
}

/// Asks the service registry.
pub(crate) struct Lookup {
    client: Client,
    url: Url,
    signer: InternalSigner,
    clock: Clock,
    kept: Kept,
}

impl Lookup {
    /// # Errors
    ///
    /// The URL is none, or the TLS library cannot start.
    pub(crate) fn new(base: &str, signer: InternalSigner, clock: Clock) -> anyhow::Result<Self> {
        let url = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.and_then(|url| url.join("/internal/services").ok());
        let url = url.with_context(|| format!("`peers.service_registry_url` must be an http(s) URL, got `{base}`"))?;
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, url, signer, clock, kept: Kept::default() })
    }

    /// The services that a run may call.
    ///
    /// # Errors
    ///
    /// The service registry did not answer as it should: why, for the run's log.
    pub(crate) async fn callable(
        &self,
        mut key: Key,
        session_token: &Secret<String>,
    ) -> Result<Arc<[CallableService]>, String> {
        // In whatever order a mentor names them, and how often.
        key.groups.sort_unstable();
        key.groups.dedup();
        let asked_at = self.clock.now();
        let groups = key.groups.clone();
        let question = self.kept.question(key, asked_at);
        let mut outcome = "kept";
        let ask = async || {
            let services = self.ask(groups, session_token, asked_at).await.inspect_err(|reason| {
                tracing::warn!(error = reason, "the service registry did not answer as it should");
            });
            outcome = if services.is_ok() { "asked" } else { "failed" };
            self.kept.weigh(&question, services.as_ref().map_or_else(String::len, |found| bytes_of(found)));
            // What was true is as old as its question; for how long to leave a registry alone, its silence is no part.
            let at = if services.is_ok() { asked_at } else { self.clock.now() };
            Answer { at, services }
        };
        let services = question.answer.get_or_init(ask).await.services.clone();
        count(outcome);
        services
    }

    async fn ask(
        &self,
        groups: Vec<Uuid>,
        session_token: &Secret<String>,
        now: DateTime<Utc>,
    ) -> Result<Arc<[CallableService]>, String> {
        let token = self.signer.sign(SERVICE_REGISTRY, now).map_err(|error| chain(&error).to_string())?;
        let asked = CallableServicesRequest { session_token: session_token.expose().clone(), groups };
        let request = self.client.post(self.url.clone()).bearer_auth(token);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(asked.encode());
        let failed = |error: reqwest::Error| chain(&error.without_url()).to_string();
        let again = request.try_clone();
        let mut answer = match (request.send().await, again) {
            // The connection may have been closed while it was kept. Many runs share this one question.
            (Err(error), Some(again)) if !error.is_timeout() && !error.is_connect() => again.send().await,
            (answer, _) => answer,
        }
        .map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("its answer is too large".to_owned());
            }
            bytes.extend_from_slice(&chunk);
        }
        let found = CallableServices::decode(&bytes).map_err(|error| chain(&error).to_string())?;
        Ok(found.services.into())
    }
}

/// How much memory these services take, about.
fn bytes_of(services: &[CallableService]) -> usize {
    let of_field = |field: &ServiceField| {
        size_of::<ServiceField>() + field.name.len() + field.field_type.len() + field.description.len()
    };
    let of_service = |service: &CallableService| {
        let texts = service.name.len() + service.description.len() + service.endpoint.len();
        size_of::<CallableService>() + texts + service.fields.iter().map(of_field).sum::<usize>()
    };
    services.iter().map(of_service).sum()
}

fn count(outcome: &'static str) {
    metrics::counter!("carillon_service_lookups_total", "outcome" => outcome).increment(1);
}
