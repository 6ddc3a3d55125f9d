//! What an OpenAI-compatible server is sent, and the answers that are understood.

use std::collections::BTreeMap;

use model::run::{RunState, Usage};
use serde_json::json;

use super::{API_KEY, ask};
use crate::harness::World;
use crate::model_server::{ModelServer, answering_in_packets, ending, event, part, status, stream};

#[tokio::test]
async fn a_model_is_asked_for_a_stream_with_all_that_the_mentor_says() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server =
        ModelServer::start(&world.clock, vec![stream(vec![part("Ding"), part(" dong"), part(", ä🔔"), ending(12, 3)])]);
    let mut asked = ask("openai", &server, "What is new?");
    asked.mentor.system_prompt = "Be brief.".into();
    let provider = &mut asked.mentor.provider;
    provider.base_url = format!("{}/v1/?version=7", server.url);
    provider.temperature = Some(0.25);
    provider.max_output_tokens = Some(500);
    provider.headers = BTreeMap::from([
        ("X-Team".to_owned(), "bells".to_owned()),
        ("Host".to_owned(), "elsewhere.example".to_owned()),
        ("Content-Length".to_owned(), "1".to_owned()),
    ]);
    world.request(&asked).await;

    let result = world.end().await.result;
    assert_eq!((result.state(), result.output.as_str()), (RunState::Success, "Ding dong, ä🔔"), "{}", result.log);
    assert_eq!(result.usage, Usage { prompt_tokens: 12, completion_tokens: 3 });
    let url = format!("{}/v1/chat/completions", server.url);
    let steps = [
        format!("POST {url}, model `small`\n"),
        "the answer begins, as a stream\n".to_owned(),
        "the answer is complete (`stop`); 12 tokens asked, 3 answered\n".to_owned(),
        "`host` of `provider.headers` is not sent".to_owned(),
    ];
    for step in steps {
        assert!(result.log.contains(&format!("2026-11-21T10:00:00.000Z {step}")), "{step}: {}", result.log);
    }
    assert!(!result.log.contains(API_KEY) && !result.log.contains("version=7"), "{}", result.log);

    let requests = server.asked_until_now();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/v1/chat/completions?version=7");
    assert_eq!(requests[0].header("authorization"), Some(format!("Bearer {API_KEY}").as_str()));
    assert_eq!((requests[0].header("x-team"), requests[0].header("host")), (Some("bells"), url.split('/').nth(2)));
    let expected = json!({
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is new?"}],
        "temperature": 0.25,
        "max_tokens": 500,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(requests[0].body, expected);
}

#[tokio::test]
async fn what_the_mentor_does_not_say_is_not_sent() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![stream(vec![part("yes"), ending(1, 1)])]);
    let mut asked = ask("openai", &server, " ");
    asked.mentor.system_prompt = "Tell a joke".into();
    asked.mentor.provider.sealed_api_key = Vec::new();
    world.request(&asked).await;
    assert_eq!(world.end().await.result.output, "yes");
    let request = &server.asked_until_now()[0];
    let expected = json!({
        "model": "small",
        "messages": [{"role": "user", "content": "Tell a joke"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!((&request.body, request.header("authorization")), (&expected, None));
}

#[tokio::test]
async fn a_server_that_answers_whole_is_understood() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let message = json!({"role": "assistant", "content": "Ding", "refusal": null});
    let answer = json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    });
    let server = ModelServer::start(&world.clock, vec![status(200, answer)]);
    world.request(&ask("openai", &server, "hello")).await;
    let result = world.end().await.result;
    assert_eq!((result.output.as_str(), result.usage.prompt_tokens), ("Ding", 2), "{}", result.log);
    assert!(result.log.contains("ends where its limit of tokens is (`length`)"), "{}", result.log);
}

#[tokio::test]
async fn a_server_that_counts_no_tokens_is_understood() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let first = event(&json!({"choices": [{"delta": {"role": "assistant", "content": null}}]}));
    let last = event(&json!({"choices": [{"delta": {"content": "dong"}, "finish_reason": "stop"}]}));
    // No `[DONE]` either, and a comment in between.
    let server = ModelServer::start(&world.clock, vec![stream(vec![first, part("Ding "), ": alive\n\n".into(), last])]);
    world.request(&ask("openai", &server, "hello")).await;
    let result = world.end().await.result;
    assert_eq!((result.output.as_str(), result.usage), ("Ding dong", Usage::default()), "{}", result.log);
    assert!(result.log.contains("(`stop`); tokens were not counted"), "{}", result.log);
}

#[tokio::test]
async fn a_server_that_refuses_a_parameter_is_asked_again_without_it_at_once() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let refusal = |message: &str| status(400, json!({"error": {"message": message}}));
    let server = ModelServer::start(
        &world.clock,
        vec![
            refusal("Unrecognized request argument supplied: stream_options"),
            refusal("'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
            stream(vec![part("yes"), ending(1, 1)]),
        ],
    );
    let mut asked = ask("openai", &server, "hello");
    asked.mentor.provider.max_output_tokens = Some(9);
    world.request(&asked).await;
    assert_eq!(world.end().await.result.output, "yes");
    let bodies: Vec<_> = server.asked_until_now().into_iter().map(|asked| asked.body).collect();
    let said = |index: usize, key: &str| !bodies[index][key].is_null();
    let keys = ["stream_options", "max_tokens", "max_completion_tokens"];
    let spelled = [0, 1, 2].map(|index| keys.map(|key| said(index, key)));
    assert_eq!(spelled, [[true, true, false], [false, true, false], [false, false, true]]);
}

#[tokio::test]
async fn however_the_bytes_of_a_stream_are_split_the_answer_is_the_same() {
    let said = format!("{}{}{}", part("Glockengeläut "), part("🔔🔔 "), part("日本"));
    let body = format!("{said}{}", ending(4, 5)).replace('\n', "\r\n");
    let response = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}");
    for packet_bytes in [1, 2, 3, 7, 1_000] {
        let world = World::new().await;
        let _runner = world.runner().await;
        let unused = ModelServer::start(&world.clock, vec![status(500, json!({}))]);
        let mut asked = ask("openai", &unused, "hello");
        asked.mentor.provider.base_url = answering_in_packets(response.clone().into_bytes(), packet_bytes).await;
        world.request(&asked).await;
        let result = world.end().await.result;
        assert_eq!(result.output, "Glockengeläut 🔔🔔 日本", "{packet_bytes}: {}", result.log);
        assert_eq!(result.usage, Usage { prompt_tokens: 4, completion_tokens: 5 });
    }
}
