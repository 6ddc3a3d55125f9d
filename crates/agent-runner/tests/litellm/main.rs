//! A server that others wrote: the LiteLLM proxy, with mocked models.
//!
//! Not part of `cargo test`, since it needs that server: `make test-providers` starts one and says by `LITELLM_URL`
//! where it is. Without that, these tests fail.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached, and its modules read better so")]
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed")]

#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest of it")]
mod harness;
#[path = "../it/model_server.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest of it")]
mod model_server;
#[path = "../it/stand_ins.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest of it")]
mod stand_ins;

use std::time::Duration;

use actix_web::HttpResponse;
use model::run::{RunReason, RunRequest, RunResult};
use model::service::{CallableService, CallableServices, ServiceField};
use model::wire::Wire;
use serde_json::json;
use service_kit::clock::Clock;
use service_kit::config::process_environment;
use uuid::Uuid;

use crate::harness::{KEY_1, World, key_ring, request};
use crate::model_server::{ModelServer, status};

/// As `config.yaml` says it.
const API_KEY: &str = "sk-carillon-test";

fn url() -> String {
    let url = process_environment().find(|(name, _)| name == "LITELLM_URL").map(|(_, value)| value);
    url.expect("LITELLM_URL says where LiteLLM is: run `make test-providers`")
}

/// What comes of asking one of the proxy's models.
async fn ask(model: &str, api_key: &str, change: impl FnOnce(&mut RunRequest)) -> RunResult {
    let mut world = World::new().await;
    world.clock = Clock::host();
    ask_in(&world, "http://127.0.0.1:1", model, api_key, change).await
}

/// The same in a world with a service registry.
async fn ask_in(
    world: &World,
    services: &str,
    model: &str,
    api_key: &str,
    change: impl FnOnce(&mut RunRequest),
) -> RunResult {
    let configure = |config: &mut agent_runner::Config| config.peers.service_registry_url = services.to_owned();
    let _runner = world.runner_with(configure, key_ring(KEY_1)).await;
    let mut asked = request(1, "What does the bell say?");
    asked.mentor.system_prompt = "You are a bell ringer.".into();
    let provider = &mut asked.mentor.provider;
    provider.kind = "openai".into();
    provider.base_url = format!("{}/v1", url());
    provider.model = model.into();
    provider.sealed_api_key = key_ring(KEY_1).seal(api_key.as_bytes(), "mentor:3", "api_key").unwrap();
    change(&mut asked);
    world.request(&asked).await;
    let result = world.end().await.result;
    assert!(!result.log.contains(api_key), "{}", result.log);
    result
}

#[tokio::test]
async fn a_model_answers_as_a_stream_and_its_tokens_are_counted() {
    let result = ask("bell-ringer", API_KEY, |request| {
        request.mentor.provider.temperature = Some(0.5);
        request.mentor.provider.max_output_tokens = Some(100);
    })
    .await;
    assert_eq!(result.output, "Ding dong: Glockengeläut 🔔 says the bell.", "{}", result.log);
    assert!(result.usage.prompt_tokens > 0 && result.usage.completion_tokens > 0, "{:?}", result.usage);
    assert!(result.log.contains("the answer begins, as a stream"), "{}", result.log);
    assert!(result.log.contains("the answer is complete (`stop`)"), "{}", result.log);
}

#[tokio::test]
async fn what_may_pass_is_asked_again_while_the_run_lasts() {
    for (model, words) in [
        ("exhausted", "429 Too Many Requests: litellm.RateLimitError: this is a mock rate limit error"),
        ("broken", "500 Internal Server Error: litellm.InternalServerError: this is a mock internal server error"),
    ] {
        let result = ask(model, API_KEY, |request| request.timeout = Duration::from_secs(15)).await;
        assert!(result.reason.is_some());
        let again = result.log.lines().filter(|line| line.contains(words) && line.contains("; asking again in "));
        assert!(again.count() >= 1, "{}", result.log);
    }
}

#[tokio::test]
async fn a_model_or_a_key_that_is_not_known_ends_the_run_with_the_servers_words() {
    for (model, api_key, words) in [
        ("nonesuch", API_KEY, "the provider answered 400 Bad Request: /chat/completions: Invalid model name passed in"),
        // What LiteLLM says of a wrong key when it has no database to look it up in.
        ("bell-ringer", "sk-wrong-key", "the provider answered 400 Bad Request: No connected db."),
    ] {
        let result = ask(model, api_key, |_| {}).await;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed));
        assert!(result.log.contains(&format!("provider_failed: {words}")), "{}", result.log);
        assert_eq!(result.log.matches("POST ").count(), 1, "{}", result.log);
    }
}

#[tokio::test]
async fn a_model_calls_a_service_and_says_what_it_answered() {
    let mut world = World::new().await;
    world.clock = Clock::host();
    let endpoint = ModelServer::start(&world.clock, vec![status(200, json!({"price": 17.5}))]);
    let field = ServiceField {
        name: "symbol".into(),
        required: true,
        field_type: "string".into(),
        description: "As AAPL.".into(),
    };
    let service = CallableService {
        id: Uuid::from_u128(1),
        name: "Stock price".into(),
        description: "Retrieves prices.".into(),
        fields: vec![field],
        endpoint: endpoint.url.clone(),
    };
    let body = CallableServices { services: vec![service] }.encode();
    let registry = ModelServer::start(&world.clock, vec![Box::new(move || HttpResponse::Ok().body(body.clone()))]);
    let result = ask_in(&world, &registry.url, "bell-caller", API_KEY, |request| {
        request.mentor.service_groups = vec![Uuid::from_u128(2).to_string()];
    })
    .await;
    assert_eq!(result.output, r#"The service says {"price":17.5}"#, "{}", result.log);
    assert_eq!(endpoint.asked_until_now()[0].body["arguments"], json!({"symbol": "ACME"}));
    let invoked = world.invoked().await;
    assert_eq!(invoked.services[0].calls.iter().map(|call| call.failure).collect::<Vec<_>>(), [None]);
    assert!(result.log.contains("the answer begins, as a stream"), "{}", result.log);
}
