//! Mentors that are programs of their own: one POST, and the answer is the output.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use model::run::{RunReason, Usage};
use serde_json::{Value, json};

use super::{API_KEY, ask};
use crate::harness::World;
use crate::model_server::{ModelServer, status, text};

#[tokio::test]
async fn it_is_told_all_about_the_run_and_shown_a_token_made_for_it() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let answer = json!({"output": "Ding", "usage": {"prompt_tokens": 5, "completion_tokens": 1}, "mood": "fine"});
    let server = ModelServer::start(&world.clock, vec![status(500, json!({})), status(200, answer)]);
    let mut asked = ask("http", &server, "What is new?");
    asked.mentor.system_prompt = "Be brief.".into();
    asked.mentor.provider.base_url = format!("{}/ask?key=t0ps3cret", server.url);
    asked.mentor.provider.headers = [("Authorization".to_owned(), "Basic mine".to_owned())].into();
    world.request(&asked).await;
    let ended = world.while_time_passes(500, world.end()).await;
    let result = &ended.result;
    assert_eq!((result.output.as_str(), result.reason), ("Ding", None), "{}", result.log);
    assert_eq!(result.usage, Usage { prompt_tokens: 5, completion_tokens: 1 });
    assert!(result.log.contains(&format!("POST {}/ask\n", server.url)), "{}", result.log);

    let requests = server.asked_until_now();
    let (first, again) = (&requests[0], &requests[1]);
    assert_eq!((first.path.as_str(), &first.body), ("/ask?key=t0ps3cret", &again.body));
    let deadline = ended.started_at + asked.timeout;
    let expected = json!({
        "prompt": "What is new?",
        "system_prompt": "Be brief.",
        "model": "small",
        "session": {
            "session_id": result.session_id, "log_id": 1, "run_attempt": asked.run.run_attempt, "organisation": "acme",
            "username": "admin@acme.example", "agent": 7, "trigger": "schedule",
            "fire_time": "2026-11-21T09:59:00.000Z", "nominal_time": "2026-11-21T09:59:00.000Z",
            "deadline": deadline.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "pathway": "papers", "parent_session_id": "session-1", "parent_mentor_id": 9,
        },
    });
    assert_eq!(first.body, expected);
    for request in [first, again] {
        assert_eq!(request.header("idempotency-key"), Some("1"));
        assert_eq!(request.header("x-api-key"), Some(API_KEY));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }

    let token = first.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap();
    let keys: JwkSet = serde_json::from_str(&world.session_key.public_jwks_json).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    // The runner's clock is not the host's.
    validation.validate_exp = false;
    validation.set_audience(&[&server.url]);
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let claims: Value = jsonwebtoken::decode(token, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["log_id"]), (&json!("admin@acme.example"), &json!(1)));
    for secret in [token, API_KEY, "t0ps3cret", "Basic mine"] {
        assert!(!result.log.contains(secret), "{}", result.log);
    }
}

#[tokio::test]
async fn what_is_no_json_is_the_output_as_it_stands() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let markdown = "# Glockengeläut 🔔\n\n{\"output\": 1}";
    for content_type in ["text/plain; charset=utf-8", "text/markdown"] {
        let server = ModelServer::start(&world.clock, vec![text(content_type, markdown)]);
        world.request(&ask("http", &server, "hello")).await;
        assert_eq!(world.end().await.result.output, markdown);
    }
}

#[tokio::test]
async fn json_without_an_output_is_refused() {
    let world = World::new().await;
    let _runner = world.runner().await;
    for body in ["{\"answer\": \"Ding\"}", "{\"output\": null}", "\"Ding\"", "{\"output\": \"Di"] {
        let server = ModelServer::start(&world.clock, vec![text("application/json", body)]);
        world.request(&ask("http", &server, "hello")).await;
        let result = world.end().await.result;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed));
        assert!(result.log.contains("the answer is no JSON with a text as `output`: "), "{}", result.log);
    }
}
