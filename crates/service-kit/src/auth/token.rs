//! Tokens of people: HS256, signed with `auth.jwt_secret`, or RS256, ES256 and EdDSA, signed by an identity provider
//! whose public keys are at `auth.jwks_url`.
//!
//! What a token says of itself chooses among keys, never how a key is used: the secret is for HS256 alone, and each
//! public key for the one algorithm that its kind has. So no public key is ever taken for a secret.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde_json::{Map, Value, json};

use super::key_set::KeySet;
use super::{AuthError, Caller, Role};
use crate::config::{AuthConfig, ClaimsConfig};

type Claims = Map<String, Value>;

/// Believes tokens, or says why not.
#[derive(Clone)]
pub struct TokenVerifier {
    /// Of tokens that are signed with a secret; none: there are no such tokens.
    secret: Option<DecodingKey>,
    /// Of an identity provider; none: there is none.
    key_set: Option<Arc<KeySet>>,
    validation: Validation,
    leeway: Duration,
    claims: ClaimsConfig,
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign the token")]
pub struct IssueError(#[from] jsonwebtoken::errors::Error);

impl TokenVerifier {
    /// Believes what `config` names: the secret, the key set, or both; issuer and audience are checked where
    /// configured.
    ///
    /// # Errors
    ///
    /// The TLS library cannot start.
    pub fn new(config: &AuthConfig) -> Result<Self, reqwest::Error> {
        let mut validation = Validation::new(Algorithm::HS256);
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation.validate_aud = config.audience.is_some();
        // The library would ask the host for the time; ours comes in as an argument.
        validation.validate_exp = false;
        let secret = config.jwt_secret.expose().as_bytes();
        Ok(Self {
            secret: (!secret.is_empty()).then(|| DecodingKey::from_secret(secret)),
            key_set: config.jwks_url.clone().map(KeySet::new).transpose()?.map(Arc::new),
            validation,
            leeway: config.leeway(),
            claims: config.claims.clone(),
        })
    }

    /// Who the token says is asking.
    ///
    /// # Errors
    ///
    /// [`AuthError::SessionToken`] for the token of a run, [`AuthError::Invalid`] for any other that is not believed.
    pub async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Caller, AuthError> {
        self.verify_dated(token, now).await.map(|(caller, _)| caller)
    }

    /// The same, with when the token was issued, if it says so.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub async fn verify_dated(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<(Caller, Option<DateTime<Utc>>), AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| AuthError::Invalid(error.to_string()))?;
        let key = self.key_for(&header, now).await?;
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        let TokenData { header, claims } = decoded.map_err(|error| AuthError::Invalid(error.to_string()))?;
        // What is critical must be understood or refused (RFC 7515, 4.1.11), and here no extension is understood.
        if header.crit.is_some() {
            return Err(AuthError::Invalid("its `crit` is not understood".to_owned()));
        }
        check_times(&claims, self.leeway, now)?;
        if claims.contains_key("act") {
            return Err(AuthError::SessionToken);
        }
        let username = text(claims.get("sub")).ok_or_else(|| AuthError::Invalid("`sub` names nobody".to_owned()))?;
        let caller = Caller {
            username,
            organisation: text(find(&claims, &self.claims.org)),
            role: role(find(&claims, &self.claims.roles)),
        };
        Ok((caller, issued_at(&claims)))
    }

    async fn key_for(&self, header: &Header, now: DateTime<Utc>) -> Result<DecodingKey, AuthError> {
        let found = match (header.alg, &self.key_set) {
            (Algorithm::HS256, _) => self.secret.clone(),
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, Some(keys)) => {
                keys.find(header.kid.as_deref(), header.alg, now).await
            }
            _ => None,
        };
        found.ok_or_else(|| AuthError::Invalid(format!("no key for {:?} with the `kid` that it names", header.alg)))
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// Signs a token for `caller` that ends after `ttl`: for the command line and for tests.
///
/// # Errors
///
/// Only if the cryptography library fails.
pub fn issue_token(
    config: &AuthConfig,
    caller: &Caller,
    ttl: Duration,
    now: DateTime<Utc>,
) -> Result<String, IssueError> {
    let issued_at = now.timestamp();
    let roles = if caller.role == Role::None { vec![] } else { vec![caller.role.as_str()] };
    let mut claims = Claims::new();
    claims.insert("sub".to_owned(), json!(caller.username));
    claims.insert(config.claims.roles.clone(), json!(roles));
    claims.insert("iat".to_owned(), json!(issued_at));
    claims.insert("exp".to_owned(), json!(issued_at.saturating_add_unsigned(ttl.as_secs())));
    let optional =
        [(config.claims.org.as_str(), &caller.organisation), ("iss", &config.issuer), ("aud", &config.audience)];
    for (name, value) in optional {
        if let Some(value) = value {
            claims.insert(name.to_owned(), json!(value));
        }
    }
    let key = EncodingKey::from_secret(config.jwt_secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// `exp` must be there and lie ahead; `nbf` and `iat` may be absent.
pub(super) fn check_times(claims: &Claims, leeway: Duration, now: DateTime<Utc>) -> Result<(), AuthError> {
    let invalid = |reason: &str| Err(AuthError::Invalid(reason.to_owned()));
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
    let (now, leeway) = (now.timestamp_millis() as f64 / 1e3, leeway.as_secs_f64());
    match seconds("exp") {
        None => return invalid("`exp` is no time"),
        Some(exp) if exp + leeway <= now => return invalid("expired"),
        Some(_) => {}
    }
    match seconds("nbf") {
        Some(nbf) if nbf - leeway > now => invalid("not valid yet"),
        None if claims.contains_key("nbf") => invalid("`nbf` is no time"),
        _ => Ok(()),
    }
}

fn issued_at(claims: &Claims) -> Option<DateTime<Utc>> {
    let since_epoch = Duration::try_from_secs_f64(claims.get("iat").and_then(Value::as_f64)?).ok()?;
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::from_std(since_epoch).ok()?)
}

/// The claim called `name`, or where its dots lead.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(claims.get(first)?, |value, name| value.get(name))
    })
}

fn text(claim: Option<&Value>) -> Option<String> {
    claim.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The highest role in a list of names, or in one string of them with spaces between; names of others' roles mean
/// nothing here.
fn role(claim: Option<&Value>) -> Role {
    match claim {
        Some(Value::String(names)) => highest(names.split(' ')),
        Some(Value::Array(names)) => highest(names.iter().filter_map(Value::as_str)),
        _ => Role::None,
    }
}

fn highest<'a>(names: impl Iterator<Item = &'a str>) -> Role {
    names.filter_map(|name| name.parse().ok()).max().unwrap_or(Role::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn config() -> AuthConfig {
        AuthConfig { jwt_secret: "an-old-oak-stands-by-the-quiet-river".to_owned().into(), ..AuthConfig::default() }
    }

    fn admin() -> Caller {
        Caller { username: "ann@acme.org".to_owned(), organisation: Some("acme".to_owned()), role: Role::TenantAdmin }
    }

    fn sign(config: &AuthConfig, algorithm: Algorithm, claims: &Value) -> String {
        let key = EncodingKey::from_secret(config.jwt_secret.expose().as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    async fn believe(config: &AuthConfig, claims: &Value) -> Result<Caller, AuthError> {
        TokenVerifier::new(config).unwrap().verify(&sign(config, Algorithm::HS256, claims), now()).await
    }

    #[tokio::test]
    async fn an_issued_token_is_believed_until_it_ends() {
        let config = AuthConfig {
            issuer: Some("https://id.acme.org".to_owned()),
            audience: Some("carillon".to_owned()),
            ..config()
        };
        let verifier = TokenVerifier::new(&config).unwrap();
        let platform = Caller { organisation: None, role: Role::PlatformAdmin, ..admin() };
        for caller in [admin(), platform, Caller { role: Role::None, ..admin() }] {
            let token = issue_token(&config, &caller, Duration::from_secs(3600), now()).unwrap();
            assert_eq!(verifier.verify(&token, now()).await, Ok(caller));
            let ended = now() + Duration::from_secs(3600) + config.leeway();
            assert_eq!(verifier.verify(&token, ended).await, Err(AuthError::Invalid("expired".to_owned())));
        }
    }

    #[tokio::test]
    async fn no_algorithm_but_hs256_is_believed() {
        let verifier = TokenVerifier::new(&config()).unwrap();
        let claims = json!({ "sub": "u", "exp": now().timestamp() + 60 });
        assert!(verifier.verify(&sign(&config(), Algorithm::HS256, &claims), now()).await.is_ok());
        assert!(verifier.verify(&sign(&config(), Algorithm::HS512, &claims), now()).await.is_err());
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        for algorithm in ["none", "None", "NONE"] {
            let unsigned = format!("{}.{}.", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(&claims));
            assert!(verifier.verify(&unsigned, now()).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_token_of_another_secret_issuer_or_audience_is_not_believed() {
        let other = AuthConfig { jwt_secret: "another-secret-of-enough-length!".to_owned().into(), ..config() };
        let foreign = issue_token(&other, &admin(), Duration::from_secs(60), now()).unwrap();
        assert!(TokenVerifier::new(&config()).unwrap().verify(&foreign, now()).await.is_err());

        let strict = AuthConfig { issuer: Some("us".to_owned()), audience: Some("carillon".to_owned()), ..config() };
        let exp = now().timestamp() + 60;
        for (claims, believed) in [
            (json!({ "sub": "u", "exp": exp, "iss": "us", "aud": "carillon" }), true),
            (json!({ "sub": "u", "exp": exp, "iss": "us", "aud": ["x", "carillon"] }), true),
            (json!({ "sub": "u", "exp": exp, "iss": "them", "aud": "carillon" }), false),
            (json!({ "sub": "u", "exp": exp, "iss": "us", "aud": "other" }), false),
            (json!({ "sub": "u", "exp": exp, "iss": "us" }), false),
            (json!({ "sub": "u", "exp": exp, "aud": "carillon" }), false),
        ] {
            assert_eq!(believe(&strict, &claims).await.is_ok(), believed, "{claims}");
        }
    }

    #[tokio::test]
    async fn a_token_without_a_name_or_an_end_is_not_believed() {
        let exp = now().timestamp() + 60;
        for claims in [
            json!({ "exp": exp }),
            json!({ "sub": "", "exp": exp }),
            json!({ "sub": 7, "exp": exp }),
            json!({ "sub": "u" }),
            json!({ "sub": "u", "exp": "tomorrow" }),
            json!({ "sub": "u", "exp": exp, "nbf": exp }),
        ] {
            assert!(matches!(believe(&config(), &claims).await, Err(AuthError::Invalid(_))), "{claims}");
        }
    }

    #[tokio::test]
    async fn a_token_that_must_be_understood_further_is_refused() {
        let claims = json!({ "sub": "u", "exp": now().timestamp() + 60 });
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(config().jwt_secret.expose().as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let refused = AuthError::Invalid("its `crit` is not understood".to_owned());
        assert_eq!(TokenVerifier::new(&config()).unwrap().verify(&token, now()).await, Err(refused));
    }

    #[tokio::test]
    async fn the_session_token_of_a_run_is_refused() {
        let claims = json!({ "sub": "u", "exp": now().timestamp() + 60, "act": { "sub": "carillon" } });
        assert_eq!(believe(&config(), &claims).await, Err(AuthError::SessionToken));
        assert_eq!(AuthError::SessionToken.status(), 403);
    }

    #[tokio::test]
    async fn claims_are_found_under_their_configured_names() {
        let claims = ClaimsConfig { org: "tenant".to_owned(), roles: "realm_access.roles".to_owned() };
        let config = AuthConfig { claims, ..config() };
        let exp = now().timestamp() + 60;
        for (roles, role) in [
            (json!(["viewer", "tenant_admin"]), Role::TenantAdmin),
            (json!("viewer platform_admin"), Role::PlatformAdmin),
            (json!(["x platform_admin"]), Role::None),
            (json!([]), Role::None),
            (json!(7), Role::None),
        ] {
            let claims = json!({ "sub": "u", "exp": exp, "tenant": "acme", "realm_access": { "roles": roles } });
            let caller = believe(&config, &claims).await.unwrap();
            assert_eq!((caller.organisation.as_deref(), caller.role), (Some("acme"), role));
        }
    }
}
