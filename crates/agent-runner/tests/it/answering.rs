//! What a mentor answered, or why it did not.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use model::run::{RunReason, RunState, Usage};
use serde_json::{Value, json};

use crate::harness::{KEY_1, World, echo, key_ring, request};

#[tokio::test]
async fn a_run_is_answered_with_its_ids_its_output_and_a_log_of_every_step() {
    let world = World::new().await;
    let runner = world.runner().await;
    let mut asked = echo(17_000_000_001, "What is new today?");
    asked.mentor.system_prompt = "Be brief.".into();
    asked.run.run_attempt = 2;
    world.request(&asked).await;

    let answer = world.answer().await;
    assert_eq!((answer.run_id, answer.run_attempt), (asked.run.id, 2));
    assert_eq!((answer.started_at, answer.ended_at), (world.clock.now(), world.clock.now()));
    assert_eq!(answer.result.state(), RunState::Success);
    assert_eq!(answer.result.output, "What is new today?");
    assert_eq!(answer.result.usage, Usage { prompt_tokens: 6, completion_tokens: 4 });
    let session = &answer.result.session_id;
    let expected = format!(
        "2026-11-21T10:00:00.000Z requested: run 17000000001, run attempt 2, of agent 7 by schedule for \
         2026-11-21T09:59:00.000Z: ask mentor 3 `Scout`\n\
         2026-11-21T10:00:00.000Z session {session} minted: user `admin@acme.example`, audience `echo`\n\
         2026-11-21T10:00:00.000Z asked `echo`: system prompt of 9 bytes, prompt of 18 bytes\n\
         2026-11-21T10:00:00.000Z answered: 18 bytes after 0 ms\n\
         output:\n\
         What is new today?"
    );
    assert_eq!(answer.result.log, expected);
    world.all_settled().await;
    runner.stop().await;
}

#[tokio::test]
async fn a_mentor_without_a_prompt_is_asked_with_its_system_prompt() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let mut asked = echo(1, " ");
    asked.mentor.system_prompt = "Tell a joke".into();
    world.request(&asked).await;
    assert_eq!(world.answer().await.result.output, "Tell a joke");
}

#[tokio::test]
async fn a_mentor_that_is_named_echo_needs_no_configuration() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let mut asked = echo(1, "hello");
    asked.mentor.provider.kind = String::new();
    asked.mentor.provider.name = "echo".into();
    world.request(&asked).await;
    assert_eq!(world.answer().await.result.output, "hello");
}

#[tokio::test]
async fn with_neither_prompt_there_is_nothing_to_ask() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "")).await;
    let result = world.answer().await.result;
    assert_eq!(result.reason, Some(RunReason::NothingToAsk));
    assert!(result.log.contains("nothing_to_ask: neither the agent nor its mentor has a prompt"), "{}", result.log);
    assert_eq!(world.model.asked_until_now(), [0; 0]);
}

#[tokio::test]
async fn a_provider_that_the_runner_does_not_have_is_named_with_its_setting() {
    let world = World::new().await;
    let _runner = world.runner().await;
    for (id, kind, name, expected) in [
        (
            1,
            "smoke-signals",
            "",
            "the mentor's `provider.kind` is `smoke-signals`, and this runner has only: echo, http, model, openai",
        ),
        (2, "", "hosted", "the mentor's provider is `hosted`, and `providers.hosted.kind` is not configured"),
        (3, "", "", "the mentor has no provider: set its `provider.kind`"),
    ] {
        let mut asked = request(id, "hello");
        asked.mentor.provider.kind = kind.into();
        asked.mentor.provider.name = name.into();
        world.request(&asked).await;
        let result = world.answer().await.result;
        assert_eq!(result.reason, Some(RunReason::ProviderUnknown));
        assert!(result.log.contains(expected), "{}", result.log);
    }
}

#[tokio::test]
async fn a_provider_that_fails_or_panics_ends_its_own_run_and_no_other() {
    let world = World::new().await;
    let _runner = world.runner().await;
    for (id, prompt, expected) in [
        (1, "fail", "provider_failed: the model is on holiday"),
        (2, "panic", "provider_failed: provider `model` panicked: a defect"),
    ] {
        world.request(&request(id, prompt)).await;
        let result = world.answer().await.result;
        assert_eq!((result.reason, result.output.as_str()), (Some(RunReason::ProviderFailed), ""));
        assert!(result.log.contains("the model thinks") && result.log.contains(expected), "{}", result.log);
    }
    world.request(&request(3, "again")).await;
    assert_eq!(world.answer().await.result.output, "answer to again");
    world.all_settled().await;
}

#[tokio::test]
async fn a_provider_gets_all_that_it_may_know_and_a_token_made_for_whom_it_asks() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let mut asked = request(42, "hello");
    asked.mentor.provider.base_url = "https://agents.example:8443/v1/ask?x=1".into();
    asked.mentor.provider.model = "small".into();
    asked.mentor.provider.sealed_api_key = key_ring(KEY_1).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    world.request(&asked).await;
    let result = world.answer().await.result;
    assert_eq!(result.output, "answer to hello");

    let question = world.model.question.lock().unwrap().take().unwrap();
    assert_eq!((question.run, question.idempotency_key.as_str()), (asked.run, "42"));
    assert_eq!(question.api_key.unwrap().expose(), "sk-123");
    assert_eq!((question.settings.model.as_str(), question.pathway.as_str()), ("small", "papers"));
    assert_eq!((question.parent_session_id.as_str(), question.parent_mentor_id), ("session-1", Some(9)));
    assert_eq!(question.deadline, world.clock.now() + asked.timeout);
    assert_eq!(question.session_id, result.session_id);

    let token = question.session_token.expose();
    let keys: JwkSet = serde_json::from_str(&world.session_key.public_jwks_json).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    // The runner's clock is not the host's.
    validation.validate_exp = false;
    validation.set_audience(&["https://agents.example:8443"]);
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let claims: Value = jsonwebtoken::decode(token, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["org"]), (&json!("admin@acme.example"), &json!("acme")));
    assert_eq!((&claims["log_id"], &claims["session_id"]), (&json!(42), &json!(result.session_id)));
    assert_eq!(claims["exp"], json!(question.deadline.timestamp()));
    for secret in [token.as_str(), "sk-123"] {
        assert!(!result.log.contains(secret), "{}", result.log);
    }
}

#[tokio::test]
async fn an_api_key_that_is_damaged_or_sealed_for_another_mentor_ends_the_run() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let of_another = key_ring(KEY_1).seal(b"sk-123", "mentor:4", "api_key").unwrap();
    for (id, sealed) in [(1, b"nonsense".to_vec()), (2, of_another)] {
        let mut asked = request(id, "hello");
        asked.mentor.provider.sealed_api_key = sealed;
        world.request(&asked).await;
        let result = world.answer().await.result;
        assert_eq!(result.reason, Some(RunReason::CredentialsUnreadable));
        assert!(result.log.contains("the mentor's API key cannot be read"), "{}", result.log);
    }
}
