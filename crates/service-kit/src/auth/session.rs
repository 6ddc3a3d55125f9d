//! Session tokens of runs: EdDSA, signed by runners, each made for one recipient (`aud`).
//!
//! They are no tokens of people: [`super::TokenVerifier`] refuses them by their `act`, and what is asked with one is
//! asked of nobody but the recipient that it names.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::AuthError;
use super::token::check_times;

/// How far the clocks of two hosts may differ.
const LEEWAY: Duration = Duration::from_secs(10);

/// Believes session tokens that were made for one recipient.
#[derive(Clone)]
pub struct SessionVerifier {
    keys: Vec<(Option<String>, DecodingKey)>,
    validation: Validation,
}

/// As whom a run acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCaller {
    /// The user.
    pub username: String,
    /// The user's organisation.
    pub organisation: String,
}

impl SessionVerifier {
    /// Believes the Ed25519 keys of a JSON Web Key Set; an empty text holds none, so nobody is believed.
    ///
    /// # Errors
    ///
    /// The text is no key set.
    pub fn new(jwks: &str, recipient: &str) -> Result<Self, serde_json::Error> {
        let set = if jwks.is_empty() { JwkSet { keys: Vec::new() } } else { serde_json::from_str(jwks)? };
        let usable = set.keys.iter().filter(|key| {
            matches!(&key.algorithm, AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519)
        });
        let keys = usable.filter_map(|key| Some((key.common.key_id.clone(), DecodingKey::from_jwk(key).ok()?)));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[recipient]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // Checked against the time that is given.
        validation.validate_exp = false;
        Ok(Self { keys: keys.collect(), validation })
    }

    /// Whether there is a key that a token could be signed with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// As whom the run acts that shows this token.
    ///
    /// # Errors
    ///
    /// [`AuthError::Invalid`], with the reason for the log.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<SessionCaller, AuthError> {
        let invalid = |reason: &str| AuthError::Invalid(reason.to_owned());
        let header = jsonwebtoken::decode_header(token).map_err(|error| AuthError::Invalid(error.to_string()))?;
        let key = self.keys.iter().find(|(id, _)| *id == header.kid).map(|(_, key)| key);
        let key = key.ok_or_else(|| invalid("no key with the `kid` that it names"))?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &self.validation);
        let claims = decoded.map_err(|error| AuthError::Invalid(error.to_string()))?.claims;
        check_times(&claims, LEEWAY, now)?;
        if !claims.contains_key("act") {
            return Err(invalid("no session token: it has no `act`"));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let username = text("sub").ok_or_else(|| invalid("`sub` names nobody"))?.to_owned();
        let organisation = text("org").ok_or_else(|| invalid("`org` names no organisation"))?.to_owned();
        Ok(SessionCaller { username, organisation })
    }
}

impl std::fmt::Debug for SessionVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionVerifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    /// A key, and the set with its public half.
    fn key(id: &str) -> (EncodingKey, String) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig", "alg": "EdDSA"}]});
        (EncodingKey::from_ed_der(der.as_ref()), jwks.to_string())
    }

    fn claims() -> Value {
        let exp = now().timestamp() + 60;
        json!({"sub": "ann", "org": "acme", "aud": "service-registry", "exp": exp, "act": {"sub": "carillon"}})
    }

    fn sign(key: &EncodingKey, claims: &Value) -> String {
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, key).unwrap()
    }

    #[test]
    fn a_token_says_as_whom_its_run_acts_until_it_ends() {
        let (key, jwks) = key("k");
        let verifier = SessionVerifier::new(&jwks, "service-registry").unwrap();
        let token = sign(&key, &claims());
        let ann = SessionCaller { username: "ann".to_owned(), organisation: "acme".to_owned() };
        assert_eq!(verifier.verify(&token, now()), Ok(ann));
        assert!(verifier.verify(&token, now() + chrono::TimeDelta::seconds(71)).is_err());
    }

    #[test]
    fn a_token_for_others_of_others_or_without_what_it_must_say_is_not_believed() {
        let ((own, jwks), (stranger, _)) = (key("k"), key("k"));
        let verifier = SessionVerifier::new(&jwks, "service-registry").unwrap();
        assert!(verifier.verify(&sign(&stranger, &claims()), now()).is_err());
        for (name, value) in [("aud", json!("https://s.example")), ("sub", json!("")), ("org", json!(null))] {
            let mut claims = claims();
            claims[name] = value;
            assert!(verifier.verify(&sign(&own, &claims), now()).is_err(), "{name}");
        }
        for name in ["aud", "exp", "sub", "org", "act"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert!(verifier.verify(&sign(&own, &claims), now()).is_err(), "{name}");
        }
        let secret = EncodingKey::from_secret(jwks.as_bytes());
        let forged = jsonwebtoken::encode(&Header::default(), &claims(), &secret).unwrap();
        assert!(verifier.verify(&forged, now()).is_err(), "a public key is no secret");
    }

    #[test]
    fn without_keys_nobody_is_believed_and_what_is_no_key_set_is_an_error() {
        let verifier = SessionVerifier::new("", "service-registry").unwrap();
        assert!(!verifier.has_keys());
        assert!(verifier.verify(&sign(&key("k").0, &claims()), now()).is_err());
        assert!(SessionVerifier::new("[]", "service-registry").is_err());
    }
}
