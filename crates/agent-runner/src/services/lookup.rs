//! Which services may a run call? The service registry knows.
//!
//! It is asked over internal HTTP, with the run's own session token, so that a runner learns no more than the run may
//! see. What it says is used for half a minute by all runs of the same user with the same groups; so long may a service
//! be called that was taken out of a group meanwhile. While it is away, runs do without services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use model::service::{CallableService, CallableServices, CallableServicesRequest};
use model::wire::Wire;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;
use service_kit::error::chain;
use service_kit::secrets::Secret;
use url::Url;
use uuid::Uuid;

/// Whom internal and session tokens are for.
pub(crate) const SERVICE_REGISTRY: &str = "service-registry";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer is used.
const FRESH_FOR: TimeDelta = TimeDelta::seconds(30);
/// Most answers that are kept.
const KEPT_MAX: usize = 1_000;
/// The largest answer, and the largest that is kept.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Who asks, for what: those with the same key may call the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) organisation: String,
    pub(crate) username: String,
    pub(crate) groups: Vec<Uuid>,
}

/// An answer, and when it came.
type Kept = (DateTime<Utc>, Arc<[CallableService]>);

/// Asks the service registry.
pub(crate) struct Lookup {
    client: Client,
    url: Url,
    signer: InternalSigner,
    clock: Clock,
    kept: Mutex<HashMap<Key, Kept>>,
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
        Ok(Self { client, url, signer, clock, kept: Mutex::default() })
    }

    /// The services that a run may call.
    ///
    /// # Errors
    ///
    /// The service registry did not answer as it should: why, for the run's log.
    pub(crate) async fn callable(
        &self,
        key: Key,
        session_token: &Secret<String>,
    ) -> Result<Arc<[CallableService]>, String> {
        let now = self.clock.now();
        if let Some(found) = self.kept(&key, now) {
            count("kept");
            return Ok(found);
        }
        match self.ask(&key, session_token, now).await {
            Ok(services) => {
                count("asked");
                let (services, bytes) = services;
                if bytes <= KEPT_BYTES_MAX {
                    self.keep(key, now, Arc::clone(&services));
                }
                Ok(services)
            }
            Err(reason) => {
                count("failed");
                tracing::warn!(error = reason, "the service registry did not answer as it should");
                Err(reason)
            }
        }
    }

    /// With the size of the answer.
    async fn ask(
        &self,
        key: &Key,
        session_token: &Secret<String>,
        now: DateTime<Utc>,
    ) -> Result<(Arc<[CallableService]>, usize), String> {
        let token = self.signer.sign(SERVICE_REGISTRY, now).map_err(|error| chain(&error).to_string())?;
        let asked =
            CallableServicesRequest { session_token: session_token.expose().clone(), groups: key.groups.clone() };
        let request = self.client.post(self.url.clone()).bearer_auth(token);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(asked.encode());
        let failed = |error: reqwest::Error| chain(&error.without_url()).to_string();
        let mut answer = request.send().await.map_err(failed)?;
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
        Ok((found.services.into(), bytes.len()))
    }

    fn kept(&self, key: &Key, now: DateTime<Utc>) -> Option<Arc<[CallableService]>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| now - *at < FRESH_FOR).map(|(_, services)| Arc::clone(services))
    }

    fn keep(&self, key: Key, now: DateTime<Utc>, services: Arc<[CallableService]>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (at, _)| now - *at < FRESH_FOR);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(key, (now, services));
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("carillon_service_lookups_total", "outcome" => outcome).increment(1);
}
