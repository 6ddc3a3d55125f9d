//! The public keys of an identity provider: a JSON Web Key Set from a file or a URL, fetched when it is needed.
//!
//! Nothing is fetched at start, so that Carillon comes up while the provider is away. A set is used for
//! [`FRESH_FOR`], so that a key that was withdrawn is not believed for ever. A token that names an unknown key has the
//! set fetched at once, which is how a new key comes in; at most once in [`TRY_AGAIN_AFTER`], since anybody can invent
//! names of keys. When fetching fails, or brings no usable key, the set that is there goes on.
//!
//! A key is good for exactly one algorithm, which follows from the key and never from the token: an RSA key for RS256,
//! P-256 for ES256, Ed25519 for EdDSA. Symmetric keys are never taken from a set.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use crate::error::chain;

/// After this a set is fetched anew.
const FRESH_FOR: TimeDelta = TimeDelta::minutes(5);
/// Until the next try, whatever came of the last.
const TRY_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any provider's set.
const BYTES_MAX: usize = 1024 * 1024;

/// A key set and where it comes from.
pub(super) struct KeySet {
    url: Url,
    client: reqwest::Client,
    held: RwLock<Arc<Held>>,
    /// Who has it fetches; the moment of the last try.
    fetching: Mutex<Option<DateTime<Utc>>>,
}

/// What the last good fetch brought.
#[derive(Default)]
struct Held {
    keys: Vec<PublicKey>,
    fetched_at: Option<DateTime<Utc>>,
}

struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a set could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the file cannot be read")]
    File(#[from] std::io::Error),
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    #[error("it was answered with {0}")]
    Status(reqwest::StatusCode),
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no JSON object with `keys`")]
    Syntax(#[from] serde_json::Error),
    #[error("it has no RSA, P-256 or Ed25519 key for signatures")]
    NoKey,
}

impl From<reqwest::Error> for FetchError {
    /// Without the URL, whose query may be a credential.
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error.without_url())
    }
}

impl KeySet {
    /// The set at `url`: `https`, `http` or `file`. The operator chose it, so it may be anywhere.
    pub(super) fn new(url: Url) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { url, client, held: RwLock::default(), fetching: Mutex::default() })
    }

    /// The key with this id for this algorithm; of a token that names none, the only one for its algorithm.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm, now: DateTime<Utc>) -> Option<DecodingKey> {
        let held = self.held();
        let found = held.find(id, algorithm);
        let fresh = held.fetched_at.is_some_and(|at| now - at < FRESH_FOR);
        match found {
            Some(key) if fresh => return Some(key),
            // Old, but there: one request fetches, the others go on meanwhile.
            Some(_) => {
                if let Ok(last_try) = self.fetching.try_lock() {
                    self.fetch_anew(last_try, now).await;
                }
            }
            None => self.fetch_anew(self.fetching.lock().await, now).await,
        }
        self.held().find(id, algorithm)
    }

    async fn fetch_anew(&self, mut last_try: tokio::sync::MutexGuard<'_, Option<DateTime<Utc>>>, now: DateTime<Utc>) {
        if last_try.is_some_and(|at| (now - at).abs() < TRY_AGAIN_AFTER) {
            return;
        }
        *last_try = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                metrics::counter!("carillon_auth_key_set_fetches_total", "outcome" => "ok").increment(1);
                tracing::info!(keys = keys.len(), "the key set of the identity provider was fetched");
                let held = Arc::new(Held { keys, fetched_at: Some(now) });
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
            }
            Err(error) => {
                metrics::counter!("carillon_auth_key_set_fetches_total", "outcome" => "failed").increment(1);
                tracing::warn!(
                    error = %chain(&error),
                    keys_kept = self.held().keys.len(),
                    "`auth.jwks_url` could not be fetched; tokens are checked with the keys that are there"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<PublicKey>, FetchError> {
        let bytes = match self.url.to_file_path() {
            Ok(path) if self.url.scheme() == "file" => {
                let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
                read.map_err(std::io::Error::other)??
            }
            _ => self.download().await?,
        };
        if bytes.len() > BYTES_MAX {
            return Err(FetchError::TooLong);
        }
        read_keys(&bytes)
    }

    async fn download(&self) -> Result<Vec<u8>, FetchError> {
        let mut answer = self.client.get(self.url.clone()).send().await?;
        if !answer.status().is_success() {
            return Err(FetchError::Status(answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > BYTES_MAX {
                return Err(FetchError::TooLong);
            }
        }
        Ok(bytes)
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut of_algorithm = self.keys.iter().filter(|key| key.algorithm == algorithm);
        let found = match id {
            Some(id) => of_algorithm.find(|key| key.id.as_deref() == Some(id)),
            None => of_algorithm.next().filter(|_| of_algorithm.next().is_none()),
        };
        found.map(|key| key.key.clone())
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The keys that can be used; others, of kinds that we do not know, stand in many sets.
fn read_keys(bytes: &[u8]) -> Result<Vec<PublicKey>, FetchError> {
    let document: Document = serde_json::from_slice(bytes)?;
    let keys: Vec<PublicKey> = document.keys.into_iter().filter_map(read_key).collect();
    if keys.is_empty() { Err(FetchError::NoKey) } else { Ok(keys) }
}

fn read_key(value: Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let for_algorithm = jwk.common.key_algorithm.is_none_or(|named| named == name);
    if !for_signatures || !for_algorithm {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(PublicKey { id: jwk.common.key_id, algorithm, key })
}
