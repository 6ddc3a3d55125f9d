//! Runs that call services: a model made by hand, a service registry that says what a test says, and real endpoints.

mod lookup;
mod repeating;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix_web::HttpResponse;
use bus::{Bus, Queue};
use model::run::{RunReason, RunRequest, RunResult, RunState, Usage};
use model::service::{CallFailure, CallableService, CallableServices, CallableServicesRequest, ServiceField};
use model::wire::Wire;
use serde_json::{Value, json};
use service_kit::auth::SessionVerifier;
use service_kit::egress::Guard;
use uuid::Uuid;

use crate::harness::{KEY_1, Runner, World, key_ring, request};
use crate::model_server::{ModelServer, Script, ending, endless, event, part, status, stream, text, with_header};

const STOCKS: Uuid = Uuid::from_u128(1);
const GROUP: &str = "4e1d5c9e-58c5-4f0e-9a53-2f4f0f6f3a10";

fn service(id: Uuid, name: &str, endpoint: &str) -> CallableService {
    let field = |name: &str, required, field_type: &str| ServiceField {
        name: name.into(),
        required,
        field_type: field_type.into(),
        description: format!("the {name}"),
    };
    CallableService {
        id,
        name: name.into(),
        description: "Retrieves prices.".into(),
        fields: vec![field("symbol", true, "string"), field("days", false, "integer")],
        endpoint: endpoint.into(),
    }
}

/// A service registry that answers everybody with these.
fn registry(world: &World, services: Vec<CallableService>) -> ModelServer {
    let body = CallableServices { services }.encode();
    let answer: Script = Box::new(move || HttpResponse::Ok().content_type("application/x-protobuf").body(body.clone()));
    ModelServer::start(&world.clock, vec![answer])
}

async fn runner(world: &World, registry: &str) -> Runner {
    world.runner_with(|config| config.peers.service_registry_url = registry.to_owned(), key_ring(KEY_1)).await
}

/// Run `id`, which asks this model and may call the services of a group.
fn ask(id: i64, model: &ModelServer) -> RunRequest {
    let mut request = request(id, "What is ACME worth?");
    let provider = &mut request.mentor.provider;
    provider.kind = "openai".into();
    provider.base_url = format!("{}/v1", model.url);
    provider.model = "small".into();
    request.mentor.service_groups = vec![GROUP.into()];
    request.timeout = Duration::from_secs(1_000_000);
    request
}

/// A turn in which the model calls functions: each a name and its arguments, as a stream in small parts.
fn calls(calls: &[(&str, &str)]) -> Script {
    let part = |delta: Value| event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}));
    let mut pieces = vec![part(json!({"role": "assistant", "content": null}))];
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let id = format!("call-{index}");
        pieces
            .push(part(json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})));
        for char in arguments.chars() {
            let function = json!({"arguments": char.to_string()});
            pieces.push(part(json!({"tool_calls": [{"index": index, "function": function}]})));
        }
    }
    pieces.push(event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})));
    pieces.push(event(&json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}})));
    pieces.push("data: [DONE]\n\n".into());
    stream(pieces)
}

/// A turn in which the model answers.
fn says(words: &str) -> Script {
    stream(vec![part(words), ending(20, 3)])
}

/// What the model was told by its functions, as of its last turn.
fn told(model: &ModelServer) -> Vec<String> {
    let asked = model.asked_until_now();
    let messages = asked.last().unwrap().body["messages"].as_array().unwrap().clone();
    let tools = messages.into_iter().filter(|message| message["role"] == "tool");
    tools.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// The failures of each call of the first service that was offered.
fn failures(invoked: &model::service::ServicesInvoked) -> Vec<Option<CallFailure>> {
    invoked.services[0].calls.iter().map(|call| call.failure).collect()
}

/// Lets a model call one service at `endpoint` once, and answer then. Time passes only while a hanging one is awaited:
/// it would outrun a busy machine.
async fn call_once(
    world: &World,
    endpoint: &str,
    hanging: Option<&ModelServer>,
) -> (RunResult, ModelServer, Vec<Option<CallFailure>>) {
    let registry = registry(world, vec![service(STOCKS, "Stocks", endpoint)]);
    let _runner = runner(world, &registry.url).await;
    let model =
        ModelServer::start(&world.clock, vec![calls(&[("Stocks", r#"{"symbol": "ACME"}"#)]), says("I do not know")]);
    world.request(&ask(1, &model)).await;
    if let Some(endpoint) = hanging {
        endpoint.asked(1).await;
        world.while_time_passes(1_000, model.asked(2)).await;
    }
    let result = world.end().await.result;
    let failures = failures(&world.invoked().await);
    (result, model, failures)
}

#[tokio::test]
async fn a_model_calls_a_service_and_its_answer_reaches_the_model() {
    let world = World::new().await;
    let endpoint = ModelServer::start(&world.clock, vec![status(200, json!({"price": 17.5}))]);
    let url = format!("{}/price?key=abc", endpoint.url);
    let other = service(Uuid::from_u128(2), "Stocks", "https://elsewhere.example/");
    let registry = registry(&world, vec![service(STOCKS, "Stock price (live)", &url), other]);
    let _runner = runner(&world, &registry.url).await;
    let arguments = r#"{"symbol": "ACME", "days": 3}"#;
    let model = ModelServer::start(&world.clock, vec![calls(&[("Stock_price_live", arguments)]), says("17.50")]);
    world.request(&ask(1, &model)).await;
    let result = world.end().await.result;
    assert_eq!((result.state(), result.output.as_str()), (RunState::Success, "17.50"), "{}", result.log);
    assert_eq!(result.usage, Usage { prompt_tokens: 30, completion_tokens: 7 });
    for line in [
        "services offered: `Stock price (live)` as `Stock_price_live`, `Stocks`",
        "the model calls 1 functions; 10 tokens asked, 4 answered",
        &format!("calls service `Stock price (live)` (POST {}/price) with {{", endpoint.url),
        "service `Stock price (live)` answered after 0 ms: 14 bytes",
    ] {
        assert!(result.log.contains(line), "{line}: {}", result.log);
    }

    let asked = model.asked_until_now();
    let function = &asked[0].body["tools"][0]["function"];
    assert_eq!(
        (&function["name"], &function["description"]),
        (&json!("Stock_price_live"), &json!("Retrieves prices."))
    );
    assert_eq!(function["parameters"]["required"], json!(["symbol"]));
    let expected = json!([
        {"role": "user", "content": "What is ACME worth?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call-0", "type": "function", "function": {"name": "Stock_price_live", "arguments": arguments}},
        ]},
        {"role": "tool", "content": r#"{"price":17.5}"#, "tool_call_id": "call-0"},
    ]);
    assert_eq!(asked[1].body["messages"], expected);
    assert_eq!(asked[1].body["tools"], asked[0].body["tools"]);

    let called = endpoint.asked_until_now();
    assert_eq!((called.len(), called[0].path.as_str()), (1, "/price?key=abc"));
    let body = json!({"service": STOCKS, "log_id": 1, "arguments": {"symbol": "ACME", "days": 3}});
    assert_eq!(called[0].body, body);
    assert!(called[0].header("idempotency-key").is_some_and(|key| Uuid::parse_str(key).is_ok()));
    let token = called[0].header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let verified = |audience: &str| {
        let keys = &world.session_key.public_jwks_json;
        SessionVerifier::new(keys, audience).unwrap().verify(token, world.clock.now())
    };
    let run = verified(&endpoint.url).unwrap();
    assert_eq!((run.username.as_str(), run.organisation.as_str()), ("admin@acme.example", "acme"));
    assert!(verified("service-registry").is_err());
    assert!(!result.log.contains(token) && !result.log.contains("key=abc"), "{}", result.log);

    let lookup = registry.asked_until_now();
    assert_eq!((lookup.len(), lookup[0].path.as_str()), (1, "/internal/services"));
    let invoked = world.invoked().await;
    assert_eq!((invoked.run_id.0, invoked.run_attempt, invoked.organisation.as_str()), (1, 1, "acme"));
    assert_eq!(failures(&invoked), [None]);
    assert_eq!(invoked.services[0].service, STOCKS);
    assert_eq!((invoked.services.len(), invoked.services[1].calls.len()), (2, 0));
    // One publish brought both.
    assert!(world.bus.gate.published.lock().unwrap().contains(&2));
}

#[tokio::test]
async fn calls_of_one_turn_are_all_made_and_answered_in_their_order() {
    let world = World::new().await;
    let answers = [1, 2].map(|price| ModelServer::start(&world.clock, vec![status(200, json!(price))]));
    let two = Uuid::from_u128(2);
    let registry = registry(&world, vec![service(STOCKS, "A", &answers[0].url), service(two, "B", &answers[1].url)]);
    let _runner = runner(&world, &registry.url).await;
    let arguments = r#"{"symbol": "X"}"#;
    // As a whole answer, with calls that have neither index nor id, and arguments that are no text.
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"symbol": "X"}}});
    let message = json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call("B")]});
    let whole = status(200, json!({"choices": [{"message": message, "finish_reason": "stop"}]}));
    let both = calls(&[("B", arguments), ("A", arguments), ("B", arguments)]);
    let model = ModelServer::start(&world.clock, vec![both, whole, says("done")]);
    world.request(&ask(1, &model)).await;
    let result = world.end().await.result;
    assert_eq!(result.output, "done", "{}", result.log);
    assert_eq!(told(&model), ["2", "1", "2", "2"]);
    let keys: Vec<_> =
        answers[1].asked_until_now().iter().map(|asked| asked.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), 3, "each call is another: {keys:?}");
    let invoked = world.invoked().await;
    assert_eq!(invoked.services.iter().map(|service| service.calls.len()).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn whatever_a_service_does_the_run_ends_in_time_and_its_log_explains() {
    let sent = Arc::new(AtomicUsize::new(0));
    let ten_megabytes = text("application/json", format!("\"{}\"", "x".repeat(10 << 20)));
    let hanging: Script =
        Box::new(|| HttpResponse::Ok().streaming(futures::stream::pending::<Result<_, std::io::Error>>()));
    let cases: Vec<(Script, CallFailure, &str)> = vec![
        (hanging, CallFailure::TimedOut, "no whole answer within 30 s"),
        (ten_megabytes, CallFailure::TooLarge, "its answer is larger than 65536 bytes"),
        (endless("application/json", "[", "1,".repeat(500), sent), CallFailure::TooLarge, "larger than"),
        (
            with_header(302, "location", "http://127.0.0.1:1/"),
            CallFailure::Redirected,
            "302 Found, which is not followed",
        ),
        (
            status(500, json!({"detail": "no prices today"})),
            CallFailure::Status,
            "500 Internal Server Error: no prices today",
        ),
        (text("text/html", "<p>hello</p>"), CallFailure::NotJson, "its answer is no JSON"),
    ];
    for (script, failure, words) in cases {
        let world = World::new().await;
        let endpoint = ModelServer::start(&world.clock, vec![script]);
        let (result, model, failures) = {
            let hanging = (failure == CallFailure::TimedOut).then_some(&endpoint);
            call_once(&world, &endpoint.url, hanging).await
        };
        assert_eq!((result.state(), result.output.as_str()), (RunState::Success, "I do not know"), "{}", result.log);
        assert_eq!(failures, [Some(failure)], "{}", result.log);
        let line = result.log.lines().find(|line| line.contains("service `Stocks` failed after")).unwrap();
        assert!(line.contains(failure.as_str()) && line.contains(words), "{line}");
        assert!(told(&model)[0].contains(failure.as_str()), "{:?}", told(&model));
        assert_eq!(endpoint.asked_until_now().len(), 1, "it is called once");
    }
}

#[tokio::test]
async fn a_service_that_is_gone_or_may_not_be_called_is_told_to_the_model() {
    let world = World::new().await;
    // Port 1 is nobody's.
    let gone = "127.0.0.1:1";
    let (result, model, failures) = call_once(&world, &format!("http://{gone}/"), None).await;
    assert_eq!(failures, [Some(CallFailure::Unreachable)], "{}", result.log);
    assert!(told(&model)[0].contains("unreachable"));
    for (endpoint, words) in [("http://10.0.0.1/", "which may not be called"), ("ftp://s.example/", "scheme")] {
        let world = World::new().await;
        let (result, _, failures) = call_once(&world, endpoint, None).await;
        assert_eq!(failures, [Some(CallFailure::NotAllowed)], "{}", result.log);
        assert!(result.log.contains(words), "{}", result.log);
    }
}

#[tokio::test]
async fn the_guard_on_callbacks_is_that_on_services() {
    let mut world = World::new().await;
    world.egress = Guard::new(vec![]);
    let endpoint = ModelServer::start(&world.clock, vec![status(200, json!(1))]);
    let registry = registry(&world, vec![service(STOCKS, "Stocks", &endpoint.url)]);
    let model = ModelServer::start(&world.clock, vec![calls(&[("Stocks", r#"{"symbol": "A"}"#)]), says("no")]);
    let change = |config: &mut agent_runner::Config| {
        config.peers.service_registry_url = registry.url.clone();
        // The operator's own model may be anywhere.
        let mut hosted = agent_runner::ProviderConfig { kind: "openai".into(), ..Default::default() };
        hosted.base_url = model.url.clone();
        config.providers.named.insert("hosted".into(), hosted);
    };
    let _runner = world.runner_with(change, key_ring(KEY_1)).await;
    let mut asked = ask(1, &model);
    (asked.mentor.provider.base_url, asked.mentor.provider.name) = (String::new(), "hosted".into());
    world.request(&asked).await;
    let result = world.end().await.result;
    assert_eq!(failures(&world.invoked().await), [Some(CallFailure::NotAllowed)], "{}", result.log);
    assert_eq!(endpoint.asked_until_now().len(), 0);
}

#[tokio::test]
async fn a_model_that_calls_wrongly_is_told_and_mends_it() {
    let world = World::new().await;
    let endpoint = ModelServer::start(&world.clock, vec![status(200, json!("ok"))]);
    let registry = registry(&world, vec![service(STOCKS, "Stocks", &endpoint.url)]);
    let _runner = runner(&world, &registry.url).await;
    let wrong = [("Shares", "{}"), ("Stocks", r#"{"days": "x"}"#), ("Stocks", r#"{"symbol": "#)];
    let model = ModelServer::start(
        &world.clock,
        vec![calls(&wrong), calls(&[("Stocks", r#"{"symbol": "ACME"}"#)]), says("done")],
    );
    world.request(&ask(1, &model)).await;
    let result = world.end().await.result;
    assert_eq!(result.output, "done", "{}", result.log);
    let told = told(&model);
    assert!(told[0].contains("no function of this name; there are: Stocks"), "{told:?}");
    assert!(told[1].contains("`symbol` is missing; `days` is not of type integer"), "{told:?}");
    assert!(told[2].contains("they are no JSON"), "{told:?}");
    assert_eq!(told[3], "\"ok\"");
    assert_eq!(endpoint.asked_until_now().len(), 1);
    let wrong = Some(CallFailure::WrongArguments);
    assert_eq!(failures(&world.invoked().await), [wrong, wrong, None]);
    for line in
        ["the model calls `Shares`, which is no service of this run", "is not called: wrong_arguments: `symbol`"]
    {
        assert!(result.log.contains(line), "{line}: {}", result.log);
    }
    // What was no JSON is not sent back: some servers cannot bear it.
    let repeated = &model.asked_until_now()[2].body["messages"][1]["tool_calls"][2]["function"]["arguments"];
    assert_eq!(repeated, "{}");
}

#[tokio::test]
async fn a_model_that_calls_for_ever_is_told_to_stop_and_then_stopped() {
    let world = World::new().await;
    let endpoint = ModelServer::start(&world.clock, vec![status(200, json!("more"))]);
    let registry = registry(&world, vec![service(STOCKS, "Stocks", &endpoint.url)]);
    let _runner = runner(&world, &registry.url).await;
    let call = || calls(&[("Stocks", r#"{"symbol": "ACME"}"#)]);
    let stubborn = ModelServer::start(&world.clock, vec![call()]);
    world.request(&ask(1, &stubborn)).await;
    let result = world.end().await.result;
    assert_eq!(result.reason, Some(RunReason::ProviderFailed));
    assert!(result.log.contains("calls services for ever: it went on after 8 rounds"), "{}", result.log);
    let choices: Vec<_> =
        stubborn.asked_until_now().into_iter().map(|asked| asked.body["tool_choice"].clone()).collect();
    assert_eq!(choices, [vec![Value::Null; 8], vec![json!("none")]].concat());
    // What it did is counted, although the run failed.
    assert_eq!(failures(&world.invoked().await), [None; 8]);

    let mut turns: Vec<Script> = (0..8).map(|_| call()).collect();
    turns.push(says("enough"));
    let obedient = ModelServer::start(&world.clock, turns);
    world.request(&ask(2, &obedient)).await;
    assert_eq!(world.end().await.result.output, "enough");

    // Many at once are cut off, and beyond all measure end the run.
    let arguments = r#"{"symbol": "A"}"#;
    let greedy = ModelServer::start(
        &world.clock,
        vec![calls(&[("Stocks", arguments); 20]), calls(&[("Stocks", arguments); 20]), says("enough")],
    );
    world.request(&ask(3, &greedy)).await;
    let result = world.end().await.result;
    assert_eq!(result.output, "enough", "{}", result.log);
    assert_eq!(told(&greedy).iter().filter(|told| told.contains("no more calls")).count(), 8);
    let beyond = ModelServer::start(&world.clock, vec![calls(&[("Stocks", arguments); 33])]);
    world.request(&ask(4, &beyond)).await;
    let result = world.end().await.result;
    assert!(result.log.contains("makes more than 32 calls of services at once: too many"), "{}", result.log);
    assert_eq!(endpoint.asked_until_now().len(), 8 + 8 + 32);
}

#[tokio::test]
async fn a_run_that_ends_while_it_calls_a_service_says_so() {
    let world = World::new().await;
    let hanging: Script =
        Box::new(|| HttpResponse::Ok().streaming(futures::stream::pending::<Result<_, std::io::Error>>()));
    let endpoint = ModelServer::start(&world.clock, vec![hanging]);
    let registry = registry(&world, vec![service(STOCKS, "Stocks", &endpoint.url)]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![calls(&[("Stocks", r#"{"symbol": "A"}"#)])]);
    let mut asked = ask(1, &model);
    asked.timeout = Duration::from_secs(10);
    world.request(&asked).await;
    endpoint.asked(1).await;
    let result = world.while_time_passes(1_000, world.end()).await.result;
    assert_eq!(result.reason, Some(RunReason::TimedOut), "{}", result.log);
    assert!(result.log.contains("calls service `Stocks`"), "{}", result.log);
    assert_eq!(failures(&world.invoked().await), [Some(CallFailure::RunEnded)]);
}

#[tokio::test]
async fn without_the_service_registry_a_run_does_without_services() {
    let world = World::new().await;
    // Port 1 is nobody's.
    let gone = "127.0.0.1:1";
    let ill = ModelServer::start(&world.clock, vec![status(503, json!({}))]);
    for registry in [format!("http://{gone}"), ill.url.clone()] {
        let runner = runner(&world, &registry).await;
        let model = ModelServer::start(&world.clock, vec![says("fine")]);
        world.request(&ask(1, &model)).await;
        let result = world.end().await.result;
        assert_eq!(result.output, "fine", "{}", result.log);
        assert!(result.log.contains("no services are offered: the service registry is away ("), "{}", result.log);
        assert!(model.asked_until_now()[0].body.get("tools").is_none());
        runner.stop().await;
    }
    assert!(world.bus.depth(Queue::ServiceRegistryInvocations).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_cannot_call_services_is_offered_none() {
    let world = World::new().await;
    let registry = registry(&world, vec![service(STOCKS, "Stocks", "https://s.example/")]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    let mut echo = ask(1, &model);
    echo.mentor.provider.kind = "echo".into();
    echo.mentor.provider.base_url = String::new();
    world.request(&echo).await;
    let result = world.end().await.result;
    assert!(result.log.contains("a mentor of kind `echo` cannot call them"), "{}", result.log);
    assert_eq!(registry.asked_until_now().len(), 0);

    // A server that knows no tools is asked again without.
    let refusal = status(400, json!({"error": {"message": "small does not support tools"}}));
    let model = ModelServer::start(&world.clock, vec![refusal, says("fine")]);
    world.request(&ask(2, &model)).await;
    let result = world.end().await.result;
    assert_eq!(result.output, "fine", "{}", result.log);
    assert!(result.log.contains("does not support tools; asking again without that parameter"), "{}", result.log);
    assert!(model.asked_until_now()[1].body.get("tools").is_none());
}

#[tokio::test]
async fn the_service_registry_is_asked_once_for_all_runs_of_a_user_within_half_a_minute() {
    let world = World::new().await;
    let registry = registry(&world, vec![]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    let mut id = 0;
    let mut run = async |change: &dyn Fn(&mut RunRequest)| {
        id += 1;
        let mut request = ask(id, &model);
        change(&mut request);
        world.request(&request).await;
        assert!(world.end().await.result.log.contains("services offered: none"));
        registry.asked_until_now().len()
    };
    assert_eq!(run(&|_| {}).await, 1);
    assert_eq!(run(&|_| {}).await, 1);
    assert_eq!(run(&|request| request.username = "eve".into()).await, 2);
    assert_eq!(run(&|request| request.run.organisation.0 = "other".into()).await, 3);
    let nil = || Uuid::nil().to_string();
    assert_eq!(run(&|request| request.mentor.service_groups.push(nil())).await, 4);
    assert_eq!(run(&|request| request.mentor.service_groups = vec![nil(), GROUP.into(), nil()]).await, 4);
    world.advance(30_000);
    assert_eq!(run(&|_| {}).await, 5);
}

/// The body of the lookup is no JSON, so the server keeps nothing of it: what it says is read here.
#[test]
fn the_lookup_shows_the_session_token_to_nobody_who_prints_it() {
    let request = CallableServicesRequest { session_token: "eyJ.secret".into(), groups: vec![Uuid::nil()] };
    assert!(!format!("{request:?}").contains("secret"));
}
