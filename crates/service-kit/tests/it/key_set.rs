//! Tokens of an identity provider: which are believed as its keys come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use service_kit::auth::{AuthError, TokenVerifier};
use service_kit::config::AuthConfig;

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A private key of an identity provider.
struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    pem: String,
}

impl Signer {
    fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let der: Vec<u8> = match algorithm {
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                pair.to_pkcs8v1().unwrap().as_ref().to_vec()
            }
            Algorithm::EdDSA => Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec(),
            _ => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
                AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).unwrap().as_ref().to_vec()
            }
        };
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
        Self { id, algorithm, pem }
    }

    fn key(&self) -> EncodingKey {
        let pem = self.pem.as_bytes();
        match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_rsa_pem(pem),
        }
        .unwrap()
    }

    /// As it stands in a key set.
    fn public(&self) -> Value {
        let mut key = serde_json::to_value(Jwk::from_encoding_key(&self.key(), self.algorithm).unwrap()).unwrap();
        key["kid"] = json!(self.id);
        key
    }

    fn token(&self) -> String {
        self.sign(Some(self.id), json!({ "sub": "ann", "org": "acme", "roles": ["tenant_admin"] }))
    }

    fn sign(&self, id: Option<&str>, mut claims: Value) -> String {
        claims["exp"] = json!(now().timestamp() + 24 * 3600);
        let header = Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, &claims, &self.key()).unwrap()
    }
}

/// An identity provider's endpoint.
#[derive(Clone)]
struct Provider {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
    url: String,
}

impl Provider {
    fn start(keys: Vec<Value>) -> Self {
        let answer = Arc::new(Mutex::new((200, json!({ "keys": keys }).to_string())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let server = HttpServer::new(move || {
            let (answers, count) = (Arc::clone(&answers), Arc::clone(&count));
            App::new().default_service(web::to(move || {
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answers.lock().unwrap().clone();
                async move { HttpResponse::build(status.try_into().unwrap()).body(body) }
            }))
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/keys?credential=hidden", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { answer, asked, url }
    }

    fn answer(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn have(&self, keys: Vec<Value>) {
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn verifier(&self) -> TokenVerifier {
        TokenVerifier::new(&AuthConfig { jwks_url: Some(self.url.parse().unwrap()), ..AuthConfig::default() }).unwrap()
    }
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

#[actix_web::test]
async fn each_kind_of_key_signs_tokens_that_are_believed_and_the_set_is_fetched_once() {
    let signers = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let signers = ["r", "e", "d"].into_iter().zip(signers).map(|(id, algorithm)| Signer::new(id, algorithm));
    let signers: Vec<Signer> = signers.collect();
    let provider = Provider::start(signers.iter().map(Signer::public).collect());
    let verifier = provider.verifier();
    for signer in &signers {
        let caller = verifier.verify(&signer.token(), now()).await.unwrap();
        assert_eq!((caller.username.as_str(), caller.organisation.as_deref()), ("ann", Some("acme")));
        let unnamed = signer.sign(None, json!({ "sub": "ann" }));
        assert!(verifier.verify(&unnamed, now()).await.is_ok(), "the only key for its algorithm");
    }
    assert_eq!(provider.asked(), 1);
}

#[actix_web::test]
async fn no_key_is_good_for_another_algorithm_than_its_own() {
    let (rsa, ec, ed) =
        (Signer::new("r", Algorithm::RS256), Signer::new("e", Algorithm::ES256), Signer::new("d", Algorithm::EdDSA));
    let oct = json!({ "kty": "oct", "kid": "o", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTAxMjM" });
    let mut encrypts = ec.public();
    encrypts["kid"] = json!("enc");
    encrypts["use"] = json!("enc");
    let provider = Provider::start(vec![rsa.public(), ec.public(), ed.public(), oct, encrypts]);
    let secret = "the-secret-of-these-tests-0123456789";
    let with_secret = AuthConfig {
        jwks_url: Some(provider.url.parse().unwrap()),
        jwt_secret: secret.to_owned().into(),
        ..AuthConfig::default()
    };
    let claims = || json!({ "sub": "ann", "exp": now().timestamp() + 60 });
    let hmac = |algorithm: Algorithm, id: &str, key: &[u8]| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(key)).unwrap()
    };
    let public = rsa.public();
    let modulus = public["n"].as_str().unwrap();
    let mut forged = vec![
        hmac(Algorithm::HS256, "r", modulus.as_bytes()),
        hmac(Algorithm::HS256, "r", public.to_string().as_bytes()),
        hmac(Algorithm::HS256, "o", b"secret-secret-secret-secret-0123"),
        hmac(Algorithm::HS256, "e", b""),
        hmac(Algorithm::HS512, "r", secret.as_bytes()),
    ];
    // A good signature under the id of a key of another kind, of a key for encryption, and of none.
    let named = |signer: &Signer, id: &str| signer.sign(Some(id), json!({ "sub": "ann" }));
    forged.extend([named(&rsa, "e"), named(&ec, "r"), named(&ed, "r"), named(&ed, "e"), named(&ec, "enc")]);
    forged.push(named(&Signer::new("r", Algorithm::RS256), "r"));
    let part = |json: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string());
    for algorithm in ["none", "None", "HS384", "RS384", "PS256"] {
        forged.push(format!("{}.{}.", part(json!({ "alg": algorithm, "kid": "r" })), part(claims())));
    }
    for verifier in [provider.verifier(), TokenVerifier::new(&with_secret).unwrap()] {
        verifier.verify(&rsa.token(), now()).await.unwrap();
        for (index, token) in forged.iter().enumerate() {
            let refused = verifier.verify(token, now()).await;
            assert!(matches!(refused, Err(AuthError::Invalid(_))), "{index}: {refused:?}");
        }
    }
    let verifier = TokenVerifier::new(&with_secret).unwrap();
    assert!(verifier.verify(&hmac(Algorithm::HS256, "x", secret.as_bytes()), now()).await.is_ok());
    let own = hmac(Algorithm::HS256, "x", secret.as_bytes());
    assert!(provider.verifier().verify(&own, now()).await.is_err(), "without a secret no token is signed with one");
}

#[actix_web::test]
async fn a_new_key_is_found_at_once_and_a_withdrawn_one_is_forgotten_in_minutes() {
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::EdDSA));
    let provider = Provider::start(vec![old.public()]);
    let verifier = provider.verifier();
    verifier.verify(&old.token(), now()).await.unwrap();

    provider.have(vec![new.public()]);
    let later = now() + seconds(20);
    verifier.verify(&new.token(), later).await.unwrap();
    assert!(verifier.verify(&old.token(), later).await.is_err());
    assert_eq!(provider.asked(), 2);

    provider.have(vec![old.public()]);
    verifier.verify(&new.token(), later + seconds(290)).await.unwrap();
    assert!(verifier.verify(&new.token(), later + seconds(310)).await.is_err());
}

#[actix_web::test]
async fn invented_key_names_do_not_make_us_ask_more_than_once_in_ten_seconds() {
    let signer = Signer::new("k", Algorithm::EdDSA);
    let provider = Provider::start(vec![signer.public()]);
    let verifier = provider.verifier();
    for attempt in 0..50 {
        let invented = signer.sign(Some(&format!("k{attempt}")), json!({ "sub": "ann" }));
        assert!(verifier.verify(&invented, now() + seconds(attempt % 10)).await.is_err());
    }
    assert_eq!(provider.asked(), 1);
    verifier.verify(&signer.sign(Some("again"), json!({ "sub": "ann" })), now() + seconds(10)).await.unwrap_err();
    assert_eq!(provider.asked(), 2);
}

#[actix_web::test]
async fn a_provider_that_fails_leaves_the_keys_that_are_there() {
    let signer = Signer::new("k", Algorithm::ES256);
    let provider = Provider::start(vec![signer.public()]);
    let verifier = provider.verifier();
    verifier.verify(&signer.token(), now()).await.unwrap();
    let mut at = now();
    let oct = json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }).to_string();
    for (status, body) in [
        (500, String::new()),
        (200, "<html>".to_owned()),
        (200, json!({ "keys": [] }).to_string()),
        (200, oct),
        (302, String::new()),
        (200, format!("{{\"keys\":[], \"x\":\"{}\"}}", "x".repeat(1024 * 1024))),
    ] {
        provider.answer(status, body);
        at += seconds(600);
        let asked = provider.asked();
        verifier.verify(&signer.token(), at).await.unwrap();
        assert_eq!(provider.asked(), asked + 1, "{status}");
    }
}

#[actix_web::test]
async fn a_set_may_be_a_file_and_the_session_token_of_a_run_is_refused_whoever_signed_it() {
    let signer = Signer::new("k", Algorithm::EdDSA);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": [signer.public()] }).to_string()).unwrap();
    let url = format!("file://{}", file.display()).parse().unwrap();
    let config = AuthConfig { jwks_url: Some(url), ..AuthConfig::default() };
    assert!(config.validate().is_ok(), "no secret is needed beside a key set");
    let verifier = TokenVerifier::new(&config).unwrap();
    verifier.verify(&signer.token(), now()).await.unwrap();
    let session = signer.sign(Some("k"), json!({ "sub": "ann", "act": { "sub": "carillon" } }));
    assert_eq!(verifier.verify(&session, now()).await, Err(AuthError::SessionToken));
}

#[test]
fn where_keys_cannot_come_from_is_said() {
    for url in ["ftp://id.example/keys", "file://host/keys", "data:,x"] {
        let config = AuthConfig { jwks_url: Some(url.parse().unwrap()), ..AuthConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("auth.jwks_url"), "{url}");
    }
    assert!(AuthConfig::default().validate().unwrap_err().to_string().contains("auth.jwt_secret"));
}
