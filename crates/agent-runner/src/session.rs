//! Session tokens: what a run shows to whom it asks, instead of its creator's own credentials.
//!
//! A token is a JWT signed with Ed25519 by a key that only runners hold; the public half is served to everybody as a
//! JWKS. It is made for one recipient (`aud`), says as whom the run acts (`sub`, `org`) and through whom (`act`, as RFC
//! 8693 nests actors: Carillon, and before it whoever edited the agent last), and ends with the run.

use anyhow::Context;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use model::id::RunId;
use serde::Serialize;
use service_kit::config::ConfigError;
use service_kit::secrets::Secret;
use uuid::Uuid;

use crate::config::SessionsConfig;

const SETTING: &str = "sessions.key";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Who acts in every session, in the `act` claim.
const ACTOR: &str = "carillon";

/// A new key for session tokens, as `carillon up` makes it on its first start.
pub struct SessionKeyPair {
    /// For the runners: `sessions.key`.
    pub private_pem: Secret<String>,
    /// For everybody: `sessions.jwks` of the registry, served at `/.well-known/jwks.json`.
    pub public_jwks_json: String,
}

/// Makes a new key for session tokens.
///
/// # Errors
///
/// The cryptography library has no randomness or memory.
pub fn generate_session_key() -> anyhow::Result<SessionKeyPair> {
    let pair = Ed25519KeyPair::generate().context("cannot make a key for session tokens")?;
    let der: Pkcs8V1Der<'_> = pair.as_der().context("cannot write a key for session tokens")?;
    let private_pem = Secret::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der.as_ref())));
    Ok(SessionKeyPair { private_pem, public_jwks_json: PublicKey::of(&pair).jwks() })
}

/// The public half of the configured key, as the JSON text of a JWKS.
///
/// # Errors
///
/// `sessions.key` is no usable key.
pub fn public_jwks(config: &SessionsConfig) -> Result<String, ConfigError> {
    let (pair, _) = read_key(config)?;
    Ok(PublicKey::of(&pair).jwks())
}

/// What a run's tokens say, whoever they are for.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    /// As whom the run acts.
    pub(crate) username: String,
    pub(crate) organisation: String,
    pub(crate) last_editor: String,
    pub(crate) run_id: RunId,
    /// The end of the run at the latest.
    pub(crate) expires_at: DateTime<Utc>,
}

/// Signs session tokens.
pub(crate) struct SessionMinter {
    key: EncodingKey,
    header: Header,
    issuer: String,
}

impl SessionMinter {
    pub(crate) fn new(config: &SessionsConfig) -> Result<Self, ConfigError> {
        let (pair, der) = read_key(config)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(PublicKey::of(&pair).thumbprint());
        Ok(Self { key: EncodingKey::from_ed_der(&der), header, issuer: config.issuer.clone() })
    }

    /// A token of this session for one recipient.
    pub(crate) fn mint(
        &self,
        session: &Session,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<Secret<String>, jsonwebtoken::errors::Error> {
        let editor = (!session.last_editor.is_empty()).then(|| Actor { sub: &session.last_editor, act: None });
        let claims = Claims {
            iss: &self.issuer,
            sub: &session.username,
            aud: audience,
            org: &session.organisation,
            act: Actor { sub: ACTOR, act: editor.map(Box::new) },
            log_id: session.run_id.0,
            session_id: session.id,
            iat: now.timestamp(),
            exp: ceil_to_seconds(session.expires_at),
            jti: Uuid::new_v4(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map(Secret::new)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    org: &'a str,
    act: Actor<'a>,
    log_id: i64,
    session_id: Uuid,
    iat: i64,
    exp: i64,
    jti: Uuid,
}

/// RFC 8693: the outermost acts now, those inside acted before it.
#[derive(Serialize)]
struct Actor<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Actor<'a>>>,
}

/// A token lives in whole seconds, and not shorter than its run.
fn ceil_to_seconds(time: DateTime<Utc>) -> i64 {
    time.timestamp() + i64::from(time.timestamp_subsec_nanos() > 0)
}

/// The public half of a key: its raw 32 bytes in base64url.
struct PublicKey {
    x: String,
}

impl PublicKey {
    fn of(pair: &Ed25519KeyPair) -> Self {
        Self { x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()) }
    }

    /// RFC 7638: the hash of the required members, in the order of their names, without white space.
    fn thumbprint(&self) -> String {
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes());
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }

    fn jwks(&self) -> String {
        let key = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.thumbprint(), "use": "sig", "alg": "EdDSA",
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }
}

/// Reads the configured key in either form; the error says nothing of what was found.
fn read_key(config: &SessionsConfig) -> Result<(Ed25519KeyPair, Vec<u8>), ConfigError> {
    // An environment variable often has its line ends spelled out.
    let text = config.key.expose().replace("\\n", "\n");
    let text = text.trim();
    if text.is_empty() {
        let problem = "must be set: an Ed25519 private key, for example from `openssl genpkey -algorithm ed25519`";
        return Err(ConfigError::setting(SETTING, problem));
    }
    let body = text.strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END)).unwrap_or(text);
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok();
    der.and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok().map(|pair| (pair, der))).ok_or_else(|| {
        ConfigError::setting(SETTING, "must be an Ed25519 private key: PKCS#8 as PEM, or its DER as base64")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

    fn session() -> Session {
        Session {
            id: Uuid::from_u128(7),
            username: "admin@acme.example".into(),
            organisation: "acme".into(),
            last_editor: "editor".into(),
            run_id: RunId(17_000_000_001),
            expires_at: "2100-01-01T00:00:00.25Z".parse().unwrap(),
        }
    }

    fn config_of(key: &str) -> SessionsConfig {
        SessionsConfig { key: Secret::new(key.to_owned()), ..SessionsConfig::default() }
    }

    fn verified(token: &str, jwks: &str, audience: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let keys: JwkSet = serde_json::from_str(jwks).unwrap();
        let kid = jsonwebtoken::decode_header(token)?.kid.unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["carillon"]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap())?;
        jsonwebtoken::decode(token, &key, &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_is_verified_with_the_public_jwks_and_says_who_acts_for_whom() {
        let pair = generate_session_key().unwrap();
        let minter = SessionMinter::new(&config_of(pair.private_pem.expose())).unwrap();
        let now = "2026-11-21T10:00:00.9Z".parse().unwrap();
        let token = minter.mint(&session(), "https://agents.example", now).unwrap();

        let claims = verified(token.expose(), &pair.public_jwks_json, "https://agents.example").unwrap();
        assert_eq!(claims["sub"], "admin@acme.example");
        assert_eq!(claims["org"], "acme");
        assert_eq!(claims["act"], json!({ "sub": "carillon", "act": { "sub": "editor" } }));
        assert_eq!(claims["log_id"], 17_000_000_001_i64);
        assert_eq!(claims["session_id"], session().id.to_string());
        assert_eq!(claims["iat"], json!(now.timestamp()));
        assert_eq!(claims["exp"], json!(session().expires_at.timestamp() + 1));
        assert!(claims["jti"].as_str().is_some_and(|jti| jti.parse::<Uuid>().is_ok()));
    }

    #[test]
    fn a_token_is_worth_nothing_to_another_recipient_or_with_another_key() {
        let (pair, other) = (generate_session_key().unwrap(), generate_session_key().unwrap());
        let minter = SessionMinter::new(&config_of(pair.private_pem.expose())).unwrap();
        let token = minter.mint(&session(), "https://a.example", "2026-11-21T10:00:00Z".parse().unwrap()).unwrap();
        assert!(verified(token.expose(), &pair.public_jwks_json, "https://b.example").is_err());
        let forged = pair.public_jwks_json.replace(&x_of(&pair.public_jwks_json), &x_of(&other.public_jwks_json));
        assert!(verified(token.expose(), &forged, "https://a.example").is_err());
    }

    fn x_of(jwks: &str) -> String {
        let keys: Value = serde_json::from_str(jwks).unwrap();
        keys["keys"][0]["x"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_key_is_read_as_pem_as_base64_and_with_line_ends_spelled_out() {
        let pair = generate_session_key().unwrap();
        let pem = pair.private_pem.expose();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for text in [pem.clone(), base64, pem.replace('\n', "\\n"), format!("\n  {pem}  \n")] {
            assert_eq!(public_jwks(&config_of(&text)).unwrap(), pair.public_jwks_json);
        }
    }

    #[test]
    fn a_key_made_by_openssl_has_the_thumbprint_that_rfc_8037_gives() {
        // The key of RFC 8037, appendix A, wrapped in PKCS#8.
        let der = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
        let jwks: Value = serde_json::from_str(&public_jwks(&config_of(der)).unwrap()).unwrap();
        assert_eq!(jwks["keys"][0]["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(jwks["keys"][0]["kid"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_key_is_refused_by_the_name_of_the_setting_and_not_shown() {
        for text in ["", "hunter2", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----"] {
            let error = config_of(text).validate().unwrap_err().to_string();
            assert!(error.starts_with("`sessions.key` must be"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
