//! What an operator is told of a run: its trace, and the lines of the log.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use test_kit::{Api, Carillon, Collector, ReadSpan, Receiver, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that fires every minute, and whose mentor is a program that answers with nothing.
async fn agent(api: &Api, mentor: &Receiver, receiver: &Receiver) -> i64 {
    let provider = json!({"kind": "http", "base_url": format!("{}/mentor", mentor.url())});
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Program", "provider": provider});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let agent = json!({
        "mentor": mentor["unique_id"], "title": "Report", "prompt": "what is new?", "task": {"crontab": {}},
        "callback_url": format!("{}/hook", receiver.url()), "callback_secret": "s3cret",
    });
    api.post("periodic-agents/", &agent).await.unwrap()["id"].as_i64().unwrap()
}

/// The two ids in a `traceparent`.
fn ids(traceparent: Option<&str>) -> (String, String) {
    let parts: Vec<_> = traceparent.unwrap_or_default().split('-').map(str::to_owned).collect();
    assert_eq!(parts.len(), 4, "{traceparent:?}");
    (parts[1].clone(), parts[2].clone())
}

#[tokio::test]
async fn a_run_is_one_trace_from_its_tick_to_the_answer_of_its_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let (mentor, receiver) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let collector = Collector::start().unwrap();
    // Sixty times as fast: a tick every second.
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(60);
    let carillon = setup.with("CARILLON__TELEMETRY__OTLP_ENDPOINT", collector.url()).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = agent(&api, &mentor, &receiver).await;
    until("a callback arrives", PATIENCE, async || (receiver.count() > 0).then_some(())).await;
    // What is not sent yet is sent when it stops.
    assert_eq!(carillon.stop().await.unwrap(), Some(0));

    // From the callback back to the tick, each span in its parent; whatever else there was to do twice.
    let callback = receiver.callbacks().remove(0);
    let (trace_id, callback_span) = ids(callback.traceparent.as_deref());
    let all = collector.spans_of(&trace_id);
    let mut spans: BTreeMap<&str, &ReadSpan> = BTreeMap::new();
    let mut id = callback_span;
    for name in ["callback", "outcome", "answer", "run", "request", "tick"] {
        let span = all.iter().find(|span| span.id == id).unwrap_or_else(|| panic!("no `{name}`: {all:#?}"));
        assert_eq!(span.name, name, "{all:#?}");
        spans.insert(name, span);
        id.clone_from(&span.parent);
    }
    assert_eq!(id, "", "a tick has no parent");
    let asked = all.iter().find(|span| span.name == "ask" && span.parent == spans["run"].id).unwrap();
    spans.insert("ask", asked);
    // Who is asked may go on from there.
    let questions = mentor.callbacks();
    let places: Vec<_> = questions.iter().map(|question| ids(question.traceparent.as_deref())).collect();
    assert!(places.contains(&(trace_id, asked.id.clone())), "{places:?}");

    let log_id = callback.json()["log_id"].to_string();
    for span in spans.values() {
        let says = |key: &str| span.attributes.get(key).map(String::as_str);
        assert_eq!(says("run.id"), Some(log_id.as_str()), "{span:?}");
        assert_eq!((says("agent.id"), says("organisation")), (Some(agent.to_string().as_str()), Some("acme")));
        assert_eq!((span.process.as_str(), &span.failure), ("carillon", &None), "{span:?}");
        assert!(span.time.0 <= span.time.1, "{span:?}");
    }
    assert_eq!(spans["callback"].attributes["http.response.status_code"], "204");
    let of = |name: &str| spans[name].microservice.as_str();
    assert_eq!((of("tick"), of("run"), of("callback")), ("cron-dispatcher", "agent-runner", "callback-deliverer"));
}

#[tokio::test]
async fn a_collector_that_never_answers_harms_no_run_and_delays_the_end_by_seconds_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (mentor, receiver) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    // The system takes the connection, and nobody reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let setup = Setup::new(BINARY, folder.path().join("data")).with("CARILLON__TELEMETRY__OTLP_ENDPOINT", &endpoint);
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = agent(&api, &mentor, &receiver).await;
    for runs in 1..=3 {
        api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
        until("the callback arrives", PATIENCE, async || (receiver.count() >= runs).then_some(())).await;
    }
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
    assert!(setup.log().contains("the last spans were not sent"), "{}", setup.log());
}

#[tokio::test]
async fn without_an_endpoint_nobody_is_told_of_a_trace_but_receivers() {
    let folder = tempfile::tempdir().unwrap();
    let (mentor, receiver) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let carillon = Setup::new(BINARY, folder.path().join("data")).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = agent(&api, &mentor, &receiver).await;
    api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
    let callback = until("the callback arrives", PATIENCE, async || receiver.callbacks().pop()).await;
    assert!(callback.traceparent.is_some());
    assert_eq!(mentor.callbacks().remove(0).traceparent, None);
    let metrics = reqwest::get(format!("{}/metrics", carillon.admin_url())).await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("carillon_spans_total{"), "{metrics}");
}

/// `carillon log-level …` beside the data directory of a running one.
fn log_level(carillon: &Carillon, setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["log-level", "--admin", carillon.admin_url(), "--data-dir"]).arg(setup.data_dir()).args(arguments);
    command.output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn what_is_logged_is_changed_while_it_runs_and_lines_of_a_run_say_which_and_in_which_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (mentor, receiver) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = agent(&api, &mentor, &receiver).await;

    let run = async || {
        let before = receiver.count();
        api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
        until("the callback arrives", PATIENCE, async || (receiver.count() > before).then_some(())).await;
    };
    let line = || -> Option<Value> {
        let lines = setup.log();
        let found = lines.lines().find(|line| line.contains("\"a run ended\""))?;
        Some(serde_json::from_str(found).unwrap())
    };
    run().await;
    assert!(printed(&log_level(&carillon, &setup, &[])).contains("warn"));
    assert_eq!(line(), None);

    printed(&log_level(&carillon, &setup, &["warn,agent_runner=debug"]));
    run().await;
    let line = until("the run is logged", PATIENCE, async || line()).await;
    let callback = receiver.callbacks().pop().unwrap();
    let (trace_id, _) = ids(callback.traceparent.as_deref());
    assert_eq!(line["span"]["trace_id"], trace_id);
    assert_eq!((&line["span"]["organisation"], &line["span"]["name"]), (&json!("acme"), &json!("run")));
    assert_eq!(line["span"]["run.id"], callback.json()["log_id"].to_string());

    let refused = log_level(&carillon, &setup, &["no=such=level"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("telemetry.log"));
    let shown = printed(&log_level(&carillon, &setup, &["--output", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()[0]["log"], "warn,agent_runner=debug");
    let shown = printed(&log_level(&carillon, &setup, &["--reset", "--output", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()[0]["log"], "warn");

    // Whoever has no key of the installation changes nothing.
    let stranger =
        reqwest::Client::builder().build().unwrap().put(format!("{}/internal/log-level", carillon.admin_url()));
    let answer = stranger.body(r#"{"log": "trace"}"#).header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.status(), 401);
}
