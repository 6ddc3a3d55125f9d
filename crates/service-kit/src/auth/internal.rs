//! Tokens that microservices show each other: one minute, for one receiver, signed with `internal.key`.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};

use super::AuthError;
use super::token::{IssueError, check_times};
use crate::config::InternalConfig;
use crate::error::ApiError;

/// How long a token is good: the time of one call, with its retries.
const LIFETIME: Duration = Duration::from_secs(60);
/// How far the clocks of two hosts may differ.
const LEEWAY: Duration = Duration::from_secs(10);

/// Signs tokens in the name of one microservice.
#[derive(Clone)]
pub struct InternalSigner {
    key: EncodingKey,
    own_name: String,
}

/// Believes tokens meant for one microservice.
#[derive(Clone)]
pub struct InternalVerifier {
    key: DecodingKey,
    validation: Validation,
}

/// The microservice that calls an internal route. As an argument of a handler it is there on every route that
/// [`crate::admin`] mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalCaller {
    /// Its name, as `agent-registry`.
    pub microservice: String,
}

impl InternalSigner {
    /// Signs as `own_name`.
    #[must_use]
    pub fn new(config: &InternalConfig, own_name: &str) -> Self {
        Self { key: EncodingKey::from_secret(config.key.expose().as_bytes()), own_name: own_name.to_owned() }
    }

    /// A token for the microservice called `to`, sent as `Authorization: Bearer …`.
    ///
    /// # Errors
    ///
    /// Only if the cryptography library fails.
    pub fn sign(&self, to: &str, now: DateTime<Utc>) -> Result<String, IssueError> {
        self.sign_for_any(&[to], now)
    }

    /// A token for whichever of these microservices hears it: an operator asks a process, and need not know which one
    /// it is.
    ///
    /// # Errors
    ///
    /// Only if the cryptography library fails.
    pub fn sign_for_any(&self, to: &[&str], now: DateTime<Utc>) -> Result<String, IssueError> {
        let audience: Vec<String> = to.iter().map(|name| audience(name)).collect();
        let issued_at = now.timestamp();
        let claims = json!({
            "iss": self.own_name,
            "aud": audience,
            "iat": issued_at,
            "exp": issued_at.saturating_add_unsigned(LIFETIME.as_secs()),
        });
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)?)
    }
}

impl InternalVerifier {
    /// Believes tokens for `own_names`, the microservices of this process, from anyone who holds the key.
    #[must_use]
    pub fn new(config: &InternalConfig, own_names: &[&str]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        let audiences: Vec<String> = own_names.iter().map(|name| audience(name)).collect();
        validation.set_audience(&audiences);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Checked against the time that is given.
        validation.validate_exp = false;
        Self { key: DecodingKey::from_secret(config.key.expose().as_bytes()), validation }
    }

    /// Which microservice is calling.
    ///
    /// # Errors
    ///
    /// [`AuthError::Invalid`], with the reason for the log.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<InternalCaller, AuthError> {
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| AuthError::Invalid(error.to_string()))?.claims;
        check_times(&claims, LEEWAY, now)?;
        let microservice = claims.get("iss").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(InternalCaller { microservice })
    }
}

impl FromRequest for InternalCaller {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        std::future::ready(caller.ok_or_else(|| AuthError::NotProvided.into()))
    }
}

/// Keeps internal tokens apart from everyone else's, and one microservice's from another's.
fn audience(microservice: &str) -> String {
    format!("carillon-internal:{microservice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Caller, Role, TokenVerifier, issue_token};
    use crate::config::AuthConfig;

    const KEY: &str = "a-key-that-only-microservices-hold";

    fn config(key: &str) -> InternalConfig {
        InternalConfig { key: key.to_owned().into() }
    }

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_receiver_for_a_minute() {
        let token = InternalSigner::new(&config(KEY), "agent-registry").sign("cron-dispatcher", now()).unwrap();
        let dispatcher = InternalVerifier::new(&config(KEY), &["cron-dispatcher"]);
        assert_eq!(dispatcher.verify(&token, now()).unwrap().microservice, "agent-registry");
        assert!(dispatcher.verify(&token, now() + LIFETIME + LEEWAY).is_err());
        assert!(InternalVerifier::new(&config(KEY), &["callback-deliverer"]).verify(&token, now()).is_err());
        assert!(
            InternalVerifier::new(&config(&KEY.to_uppercase()), &["cron-dispatcher"]).verify(&token, now()).is_err()
        );
    }

    #[tokio::test]
    async fn neither_door_takes_the_other_ones_token_though_the_secrets_be_the_same() {
        let auth = AuthConfig { jwt_secret: KEY.to_owned().into(), ..AuthConfig::default() };
        let caller = Caller { username: "u".to_owned(), organisation: None, role: Role::PlatformAdmin };
        let public = issue_token(&auth, &caller, LIFETIME, now()).unwrap();
        assert!(InternalVerifier::new(&config(KEY), &["cron-dispatcher"]).verify(&public, now()).is_err());
        let internal = InternalSigner::new(&config(KEY), "agent-registry").sign("cron-dispatcher", now()).unwrap();
        assert!(TokenVerifier::new(&auth).unwrap().verify(&internal, now()).await.is_err());
    }
}
