//! Every kind of failure: what may pass is asked again while the run lasts, what stays ends it with the reason.

use std::time::Duration;

use chrono::TimeDelta;
use model::run::{RunReason, RunResult};
use serde_json::json;

use super::{API_KEY, ask};
use crate::harness::World;
use crate::model_server::{
    ModelServer, Script, broken_stream, ending, event, hanging_stream, later, part, pinging_stream, slow_stream,
    status, stream, text, with_header,
};

fn answer() -> Script {
    stream(vec![part("here "), part("I am"), ending(1, 2)])
}

/// What comes of a run whose server answers so, while time passes.
async fn result_of(scripts: Vec<Script>) -> (RunResult, ModelServer) {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, scripts);
    world.request(&ask("openai", &server, "hello")).await;
    // Not before it is asked, and no faster: what a server of a busy machine says must not come too late.
    server.asked(1).await;
    let result = world.while_time_passes(200, world.end()).await.result;
    (result, server)
}

/// What comes of a run that is too short to ask twice: the answer comes when less is left than the shortest wait.
async fn result_of_one(script: Script) -> RunResult {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![later(&world.clock, 600, script)]);
    let mut asked = ask("openai", &server, "hello");
    asked.timeout = Duration::from_secs(1);
    world.request(&asked).await;
    let result = world.end().await.result;
    assert_eq!(server.asked_until_now().len(), 1);
    assert!(!result.log.contains(API_KEY), "{}", result.log);
    result
}

#[tokio::test]
async fn a_server_that_fails_three_times_is_asked_four_times() {
    let failure = || status(500, json!({"error": {"message": "the model stumbled"}}));
    let (result, server) = result_of(vec![failure(), failure(), failure(), answer()]).await;
    assert_eq!(result.output, "here I am", "{}", result.log);
    let line = "the provider answered 500 Internal Server Error: the model stumbled; asking again in ";
    assert_eq!(result.log.matches(line).count(), 3, "{}", result.log);
    let asked = server.asked_until_now();
    let waits: Vec<_> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (wait, at_least_ms) in waits.iter().zip([500, 1_000, 2_000]) {
        assert!(*wait >= TimeDelta::milliseconds(at_least_ms), "{waits:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_asked_too_often_is_given_the_time_that_it_wants() {
    // The date is two minutes after the moment at which the test begins.
    for (retry_after, at_least) in [("45", 45), ("Sat, 21 Nov 2026 10:02:00 GMT", 60)] {
        let (result, server) = result_of(vec![with_header(429, "retry-after", retry_after), answer()]).await;
        assert_eq!(result.output, "here I am", "{}", result.log);
        assert!(result.log.contains("answered 429 Too Many Requests: not now; asking again in "), "{}", result.log);
        let asked = server.asked_until_now();
        assert!(asked[1].at - asked[0].at >= TimeDelta::seconds(at_least), "{}", result.log);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_half_way_is_asked_for_again_and_only_the_whole_answer_counts() {
    let half = vec![part("never "), part("mind")];
    let unended = r#"data: {"choices": [{"delta": {"cont"#.to_owned();
    let ended_early = stream(vec![part("never"), unended]);
    let overloaded = json!({"error": {"message": "overloaded", "type": "server_error", "code": null}});
    let failing = stream(vec![part("never"), event(&overloaded)]);
    let (result, server) = result_of(vec![broken_stream(half), ended_early, failing, answer()]).await;
    assert_eq!((result.output.as_str(), server.asked_until_now().len()), ("here I am", 4), "{}", result.log);
    for line in [
        "the answer broke off: ",
        "the answer broke off: its stream ended before the model had finished; asking again in ",
        "the provider failed while it answered: overloaded; asking again in ",
    ] {
        assert!(result.log.contains(line), "{line}: {}", result.log);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_the_model_had_finished_is_an_answer() {
    let finished = event(&json!({"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]}));
    let (result, server) = result_of(vec![broken_stream(vec![finished])]).await;
    assert_eq!((result.output.as_str(), server.asked_until_now().len()), ("all", 1), "{}", result.log);
}

#[tokio::test]
async fn a_stream_that_never_ends_after_the_model_had_finished_is_an_answer() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let finished = event(&json!({"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]}));
    let server = ModelServer::start(&world.clock, vec![pinging_stream(vec![finished])]);
    let begun = world.clock.now();
    world.request(&ask("openai", &server, "hello")).await;
    server.asked(1).await;
    let answer = world.while_time_passes(1_000, world.end()).await;
    assert_eq!((answer.result.reason, answer.result.output.as_str()), (None, "all"), "{}", answer.result.log);
    assert!(answer.ended_at - begun < TimeDelta::seconds(60), "{}", answer.result.log);
}

#[tokio::test]
async fn a_server_that_says_in_every_event_that_it_has_finished_is_heard_to_the_end() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let says = |text: &str| event(&json!({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}));
    let pieces = ["to ", "the ", "very ", "end"].map(says).to_vec();
    let server = ModelServer::start(&world.clock, vec![slow_stream(&world.clock, 8_000, pieces)]);
    world.request(&ask("openai", &server, "hello")).await;
    let result = world.end().await.result;
    assert_eq!((result.reason, result.output.as_str()), (None, "to the very end"), "{}", result.log);
}

#[tokio::test]
async fn an_answer_that_goes_silent_for_too_long_is_asked_for_again() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![hanging_stream(vec![part("well")]), answer()]);
    world.request(&ask("openai", &server, "hello")).await;
    server.asked(1).await;
    let result = world.while_time_passes(5_000, world.end()).await.result;
    assert_eq!(result.output, "here I am", "{}", result.log);
    assert!(result.log.contains("the answer broke off: nothing more came for 300 s"), "{}", result.log);
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_run_may_is_a_time_out() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![hanging_stream(vec![part("well")])]);
    let mut asked = ask("openai", &server, "hello");
    asked.timeout = Duration::from_secs(5);
    world.request(&asked).await;
    server.asked(1).await;
    world.advance(5_000);
    let answer = world.end().await;
    assert_eq!(answer.result.reason, Some(RunReason::TimedOut));
    assert_eq!(answer.ended_at - answer.started_at, TimeDelta::seconds(5));
    assert!(answer.result.log.contains("timed_out: no answer within 5 s"), "{}", answer.result.log);
    world.all_settled().await;
}

#[tokio::test]
async fn what_may_pass_but_not_before_the_deadline_ends_the_run_at_once_with_the_reason() {
    for (script, reason) in [
        (
            status(503, json!({"error": "busy"})),
            "the provider answered 503 Service Unavailable: busy; asking again in ",
        ),
        (broken_stream(vec![part("half")]), "the answer broke off: "),
        (stream(vec![part("half")]), "its stream ended before the model had finished; asking again in "),
        (with_header(429, "retry-after", "3600"), "answered 429 Too Many Requests: not now; asking again in 360"),
    ] {
        let result = result_of_one(script).await;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed));
        assert!(result.log.contains(reason), "{}", result.log);
        assert!(result.log.contains("would be after the run's deadline (failures so far: 1)"), "{}", result.log);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again_and_named_as_such() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![answer()]);
    let mut asked = ask("openai", &server, "hello");
    asked.timeout = Duration::from_secs(600);
    // Port 1 is nobody's.
    asked.mentor.provider.base_url = "http://127.0.0.1:1/v1".into();
    world.request(&asked).await;
    let result = world.while_time_passes(500, world.end()).await.result;
    assert!(result.reason.is_some());
    let (_, line) = result.log.split_once(" no connection to the provider: ").unwrap();
    assert!(line.lines().next().unwrap().contains("; asking again in "), "{}", result.log);
}

#[tokio::test]
async fn what_stays_ends_the_run_at_once_with_the_servers_own_words_and_without_secrets() {
    let complaint = |message: &str| json!({"error": {"message": message, "type": "invalid_request_error"}});
    let spent = json!({"error": {"message": "nothing left", "code": "insufficient_quota"}});
    let refused = stream(vec![part("well"), event(&json!({"error": {"message": "bad prompt", "code": 400}}))]);
    for (script, reason) in [
        (
            status(401, complaint(&format!("Incorrect API key provided: {API_KEY}."))),
            "the provider answered 401 Unauthorized: Incorrect API key provided: ****.\n",
        ),
        (status(404, complaint("no such model")), "the provider answered 404 Not Found: no such model\n"),
        (status(400, complaint("bad\n temperature")), "the provider answered 400 Bad Request: bad temperature\n"),
        (status(429, spent), "the provider answered 429 Too Many Requests: nothing left\n"),
        (refused, "the provider failed while it answered: bad prompt\n"),
        (text("application/json", "{\"choices\": ["), "the answer (`application/json`) is no chat completion, EOF"),
        (text("text/html", "<h1>Welcome</h1>"), "the answer (`text/html`) is no chat completion, expected value"),
        (status(200, json!({"choices": []})), "the answer has no choice in it: {\"choices\":[]}\n"),
        (text("text/event-stream", "data: nonsense\n\n"), "an event of the answer is no chat completion, expected"),
    ] {
        let result = result_of_one(script).await;
        assert_eq!((result.reason, result.output.as_str()), (Some(RunReason::ProviderFailed), ""));
        assert!(result.log.contains(&format!("provider_failed: {reason}")), "{reason}: {}", result.log);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_that_the_key_stays_where_it_was_meant_to_go() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let other = ModelServer::start(&world.clock, vec![answer()]);
    for code in [301, 302, 303, 307, 308] {
        for kind in ["openai", "http"] {
            let server = ModelServer::start(&world.clock, vec![with_header(code, "location", &other.url)]);
            world.request(&ask(kind, &server, "hello")).await;
            let result = world.end().await.result;
            assert_eq!(result.reason, Some(RunReason::ProviderFailed));
            assert!(result.log.contains("a redirect, which is not followed: not now"), "{}", result.log);
        }
    }
    assert!(other.asked_until_now().is_empty());
}

#[tokio::test]
async fn a_mentor_that_says_too_little_is_told_what_to_set() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let server = ModelServer::start(&world.clock, vec![answer()]);
    let mut without_model = ask("openai", &server, "hello");
    without_model.mentor.provider.model.clear();
    let mut without_url = ask("http", &server, "hello");
    without_url.mentor.provider.base_url.clear();
    let mut bad_header = ask("http", &server, "hello");
    bad_header.mentor.provider.headers = [("x-a".to_owned(), "line\nbreak".to_owned())].into();
    for (asked, reason) in [
        (without_model, "the mentor names no model: set its `provider.model`"),
        (without_url, "the mentor's provider has no `base_url`"),
        (bad_header, "`x-a` in `provider.headers` cannot stand in a header"),
    ] {
        world.request(&asked).await;
        let result = world.end().await.result;
        assert!(result.log.contains(&format!("provider_failed: {reason}")), "{}", result.log);
    }
    assert!(server.asked_until_now().is_empty());
}
