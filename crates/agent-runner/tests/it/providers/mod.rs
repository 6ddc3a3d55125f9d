//! Mentors that are asked over HTTP: what is sent, what is understood, and what becomes of every kind of failure.

mod asking;
mod failing;
mod http;
mod large;
mod named;

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use agent_runner::{ProviderConfig, ProvidersConfig};
use model::run::RunRequest;
use service_kit::secrets::Secret;

use crate::harness::{KEY_1, key_ring, request};
use crate::model_server::ModelServer;

const API_KEY: &str = "sk-t0ps3cret";

/// The next attempt of run 1, which asks this server for `prompt` through its mentor's own settings.
fn ask(kind: &str, server: &ModelServer, prompt: &str) -> RunRequest {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(1);
    let mut request = request(1, prompt);
    request.run.run_attempt = ATTEMPTS.fetch_add(1, Relaxed);
    let provider = &mut request.mentor.provider;
    provider.kind = kind.into();
    provider.base_url = format!("{}/v1", server.url);
    provider.model = "small".into();
    provider.sealed_api_key = key_ring(KEY_1).seal(API_KEY.as_bytes(), "mentor:3", "api_key").unwrap();
    // Longer than any test lets time pass.
    request.timeout = Duration::from_secs(1_000_000);
    request
}

/// One provider in the configuration, `hosted`, at this server.
fn hosted(kind: &str, server: &ModelServer) -> ProvidersConfig {
    let provider = ProviderConfig {
        kind: kind.into(),
        base_url: format!("{}/v1/", server.url),
        api_key: Secret::new("sk-operators".to_owned()),
        model: "configured".into(),
    };
    ProvidersConfig { default: Some("hosted".into()), named: [("hosted".to_owned(), provider)].into() }
}
