//! Answers that are larger than any output may be: cut with a marker or refused, and never read whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_runner::OUTPUT_AND_LOG_BYTES_MAX;
use model::run::{RunReason, RunResult};
use serde_json::json;

use super::ask;
use crate::harness::World;
use crate::model_server::{ModelServer, endless, event, part, text};

/// Far more than is read and what the buffers of two sockets may hold besides, however a host is tuned.
const SENT_MAX: usize = 1_000_000_000;

/// What comes of asking a server whose answer goes on for ever.
async fn result_of(kind: &str, content_type: &'static str, first: &'static str, piece: String) -> RunResult {
    let world = World::new().await;
    let _runner = world.runner().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let server = ModelServer::start(&world.clock, vec![endless(content_type, first, piece, Arc::clone(&sent))]);
    world.request(&ask(kind, &server, "hello")).await;
    let result = world.end().await.result;
    assert_eq!(server.asked_until_now().len(), 1);
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < SENT_MAX, "{sent} bytes were read");
    assert!(result.output.len() + result.log.len() <= OUTPUT_AND_LOG_BYTES_MAX);
    result
}

fn assert_cut(result: &RunResult) {
    assert_eq!(result.reason, None, "{}", beginning(&result.log));
    assert!(result.output.len() > OUTPUT_AND_LOG_BYTES_MAX - 100_000);
    for text in [&result.output, &result.log] {
        let (_, marker) = text.rsplit_once('[').unwrap();
        assert!(marker.starts_with("at least ") && marker.ends_with(" bytes cut here]"), "{marker}");
    }
    assert!(result.log.contains(" answered: more than 10"), "{}", beginning(&result.log));
}

fn beginning(text: &str) -> String {
    text.chars().take(2_000).collect()
}

#[tokio::test]
async fn a_stream_is_cut() {
    let result = result_of("openai", "text/event-stream", "", part(&"ä".repeat(30_000))).await;
    assert_cut(&result);
    assert!(
        result.log.contains("the answer goes on beyond what is kept, and is not read any further; tokens were not")
    );
}

#[tokio::test]
async fn a_text_is_cut() {
    assert_cut(&result_of("http", "text/plain", "", "ä".repeat(30_000)).await);
}

#[tokio::test]
async fn json_and_single_events_are_refused() {
    for (kind, content_type, first, reason) in [
        ("http", "application/json", r#"{"output": ""#, "the answer is JSON of more than 10485760 bytes"),
        ("openai", "application/json", r#"{"choices": [""#, "the answer is no stream, and larger than 10485760 bytes"),
        ("openai", "text/event-stream", "data: ", "an event of the answer is larger than 10485760 bytes"),
    ] {
        let result = result_of(kind, content_type, first, "x".repeat(60_000)).await;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed));
        assert!(result.log.contains(&format!("provider_failed: {reason}")), "{}", result.log);
    }
}

/// Three bytes each, they would take sixty times as much in memory, and each call would be looked for among all others.
#[tokio::test]
async fn lists_that_no_model_writes_are_refused() {
    let many = |element: &str, count: usize| vec![element; count].join(",");
    let calls = (0..100_000).map(|index| format!(r#"{{"index":{index}}}"#)).collect::<Vec<_>>().join(",");
    let one_by_one = (0..33).map(|index| {
        let part = json!({"index": index, "id": format!("call-{index}"), "function": {"name": "Stocks"}});
        event(&json!({"choices": [{"delta": {"tool_calls": [part]}}]}))
    });
    let arguments = json!({"choices": [{"message": {"tool_calls": [{"function": {
        "name": "Stocks", "arguments": "0".repeat(1_100_000)}}]}}]});
    let refused = "a list of at most 128";
    for (content_type, body, reason) in [
        ("application/json", format!(r#"{{"choices":[{}]}}"#, many("{}", 1_000_000)), refused),
        ("text/event-stream", format!("data: {{\"choices\":[{}]}}\n\n", many("{}", 1_000_000)), refused),
        ("application/json", format!(r#"{{"choices":[{{"message":{{"tool_calls":[{calls}]}}}}]}}"#), refused),
        ("text/event-stream", one_by_one.collect(), "the model makes more than 32 calls of services at once"),
        ("application/json", arguments.to_string(), "the arguments of a call are larger than 1048576 bytes"),
        ("application/json", format!(r#"{{"error":[{}]}}"#, many("0", 1_000_000)), "while it answered: [0,0,0,"),
    ] {
        let world = World::new().await;
        let _runner = world.runner().await;
        let server = ModelServer::start(&world.clock, vec![text(content_type, body)]);
        world.request(&ask("openai", &server, "hello")).await;
        let result = world.end().await.result;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed), "{reason}");
        assert!(result.log.contains(reason), "{reason}: {}", beginning(&result.log));
    }
}

#[tokio::test]
async fn a_complaint_is_shortened() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(
        &world.clock,
        vec![Box::new(|| actix_web::HttpResponse::BadRequest().body("no ".repeat(1_000_000)))],
    );
    world.request(&ask("http", &server, "hello")).await;
    let result = world.end().await.result;
    assert!(result.log.contains("the provider answered 400 Bad Request: no no ") && result.log.len() < 1_500);
}
