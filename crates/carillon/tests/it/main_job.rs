//! The main job: an agent made over HTTP, a callback that the test's own HMAC verifies.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use test_kit::{Api, Receiver, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(120);

/// A crontab that does not come in our time: an agent that has it runs only when it is asked to.
fn never() -> Value {
    json!({"crontab": {"minute": "0", "hour": "0", "day_of_month": "29", "month_of_year": "2"}})
}

/// An agent that fires every minute.
async fn echo_agent(api: &Api, receiver: &Receiver, prompt: &str) -> i64 {
    echo_agent_with(api, receiver, prompt, json!({"task": {"crontab": {}}})).await
}

/// An agent with these fields beside.
async fn echo_agent_with(api: &Api, receiver: &Receiver, prompt: &str, more: Value) -> i64 {
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let mut agent = json!({
        "mentor": mentor["unique_id"], "title": "Report", "prompt": prompt,
        "callback_url": format!("{}/hook", receiver.url()), "callback_secret": "s3crét",
    });
    for (name, value) in more.as_object().unwrap() {
        agent[name] = value.clone();
    }
    api.post("periodic-agents/", &agent).await.unwrap()["id"].as_i64().unwrap()
}

#[tokio::test]
async fn a_triggered_run_is_logged_and_its_signed_callback_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let carillon = Setup::new(BINARY, folder.path().join("data")).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    // No tick comes in between, whatever the minute.
    let agent = echo_agent_with(&api, &receiver, "what is new?", json!({"task": never()})).await;

    let log = api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
    // A client reads its own writes: the log is there, ended or not.
    let log_path = format!("periodic-agent-logs/{}/", log["id"]);
    assert_eq!(api.get(&log_path).await.unwrap()["periodic_agent"], agent);

    let callback = until("the callback arrives", PATIENCE, async || receiver.callbacks().pop()).await;
    assert_eq!(callback.path, "/hook");
    assert_eq!(callback.content_type.as_deref(), Some("application/json"));
    assert!(callback.is_signed_with("s3crét"));
    assert!(callback.webhook_id.is_some());
    let body = callback.json();
    let text = String::from_utf8(callback.body.to_vec()).unwrap();
    let order = ["timestamp", "status", "prompt", "agent_output", "log", "log_id"];
    let places: Vec<_> = order.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "the six keys come first and in order: {text}");
    assert_eq!((&body["status"], &body["log_id"]), (&json!("success"), &log["id"]));
    assert_eq!((&body["prompt"], &body["agent_output"]), (&json!("what is new?"), &json!("what is new?")));

    // A callback and its log agree at any moment.
    let logged = api.get(&log_path).await.unwrap();
    assert_eq!((&logged["status"], &logged["content"]), (&body["status"], &body["log"]));
    let statistics = until("the statistics follow", PATIENCE, async || {
        let statistics = api.get("periodic-agents/statistics/").await.unwrap();
        (statistics["succeeded_tasks"] == 1).then_some(statistics)
    });
    assert_eq!(statistics.await["total_tasks"], 1);
}

#[tokio::test]
async fn a_tick_fires_runs_and_is_called_back_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    // Sixty times as fast: a tick every second.
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(60);
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = echo_agent(&api, &receiver, "what is new?").await;

    // In any order: callbacks overtake each other on a busy machine.
    until("the first three runs are called back", PATIENCE, async || {
        let sequences: BTreeSet<_> = receiver.callbacks().iter().map(|one| one.json()["sequence"].as_i64()).collect();
        [1, 2, 3].iter().all(|sequence| sequences.contains(&Some(*sequence))).then_some(())
    })
    .await;
    let ticks = api.list(&format!("periodic-agents/{agent}/ticks/")).await.unwrap();
    // A machine that stands still for longer than a tick makes one run of what it missed.
    assert!(ticks.iter().all(|tick| tick["outcome"] == "run" || tick["reason"] == "coalesced"), "{ticks:?}");
    assert!(api.get(&format!("periodic-agents/{agent}/")).await.unwrap()["next_fire_time"].is_string());
}

#[tokio::test]
async fn a_one_off_runs_once_and_is_then_disabled() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(60);
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = echo_agent(&api, &receiver, "once").await;
    let path = format!("periodic-agents/{agent}/");
    api.patch(&path, &json!({"task": {"one_off": true}})).await.unwrap();

    let finished = until("the one-off is disabled", PATIENCE, async || {
        let agent = api.get(&path).await.unwrap();
        (agent["enabled"] == false).then_some(agent)
    });
    assert_eq!(finished.await["task"]["enabled"], false);
    let before = receiver.count();
    // Enabled again, it has one more run.
    api.patch(&path, &json!({"task": {"enabled": true}})).await.unwrap();
    until("it ran once more", PATIENCE, async || (receiver.count() > before).then_some(())).await;
}

#[tokio::test]
async fn an_agent_that_follows_another_is_asked_with_the_others_output() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let carillon = Setup::new(BINARY, folder.path().join("data")).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let first = echo_agent_with(&api, &receiver, "the news", json!({"task": never()})).await;
    // It follows from its beginning: a minute that turned before would be a run without output.
    let follows = json!({"task": {"crontab": {}}, "previous_agent": first});
    let second = echo_agent_with(&api, &receiver, "sum up: {previous_agent_output}", follows).await;

    // The dispatcher hears of the follower a moment after the registry has answered: ask until a run is followed.
    let heard = until("the follower is called back", PATIENCE, async || {
        api.post(&format!("periodic-agents/{first}/run/"), &json!({})).await.unwrap();
        receiver.callbacks().iter().map(test_kit::Callback::json).find(|body| body["periodic_agent"] == second)
    });
    assert_eq!(heard.await["agent_output"], "sum up: the news");
}

#[tokio::test]
async fn a_one_off_that_follows_runs_once_more_when_it_is_turned_on_again() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let carillon = Setup::new(BINARY, folder.path().join("data")).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let first = echo_agent_with(&api, &receiver, "the news", json!({"task": never()})).await;
    let follows = json!({"task": {"crontab": {}, "one_off": true}, "previous_agent": first});
    let second = echo_agent_with(&api, &receiver, "sum up: {previous_agent_output}", follows).await;

    let (path, run) = (format!("periodic-agents/{second}/"), format!("periodic-agents/{first}/run/"));
    let logs = format!("periodic-agent-logs/?periodic_agent={second}&status=success");
    // The dispatcher hears of the follower a moment after the registry has answered: ask until a run is followed.
    let runs = async |wanted: usize| {
        until("the follower has run and is disabled", PATIENCE, async || {
            api.post(&run, &json!({})).await.unwrap();
            let is_over = api.list(&logs).await.unwrap().len() == wanted;
            (is_over && api.get(&path).await.unwrap()["enabled"] == false).then_some(())
        })
        .await;
    };
    runs(1).await;
    api.patch(&path, &json!({"task": {"enabled": true}})).await.unwrap();
    runs(2).await;
}

#[tokio::test]
async fn ticks_of_an_agent_whose_creator_is_revoked_are_skipped_until_he_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(60);
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let colleague = carillon.api("acme", "ben").await.unwrap();
    let agent = echo_agent(&api, &receiver, "what is new?").await;
    until("a tick is called back", PATIENCE, async || (receiver.count() >= 1).then_some(())).await;

    let place = |verb: &str| format!("/api/core/orgs/acme/users/admin/{verb}/");
    let revoked = colleague.post(&place("revoke"), &json!({})).await.unwrap();
    assert_eq!((&revoked["allowed"], &revoked["role"]), (&json!(false), &json!("tenant_admin")));
    let skipped = format!("periodic-agents/{agent}/ticks/?outcome=skipped");
    let ticks = until("two ticks are skipped", PATIENCE, async || {
        let ticks = api.list(&skipped).await.unwrap();
        let barred = ticks.iter().filter(|tick| tick["reason"] == "creator_not_allowed").count();
        (barred >= 2).then_some(ticks)
    });
    // A machine that stands still for longer than a tick passes over what it missed.
    let explained = |tick: &Value| tick["reason"] == "creator_not_allowed" || tick["reason"] == "coalesced";
    assert!(ticks.await.iter().all(explained));
    let run = format!("periodic-agents/{agent}/run/");
    // On a clock this fast what one part signs for another is good for a second: it may have to be asked again.
    let refused = until("a run is refused", PATIENCE, async || {
        let (status, body) = api.call(reqwest::Method::POST, &run, Some(&json!({}))).await.unwrap();
        (status.as_u16() < 500).then_some((status.as_u16(), body))
    });
    let (status, body) = refused.await;
    assert_eq!((status, &body["code"]), (409, &json!("creator_not_allowed")));

    let before = receiver.count();
    colleague.post(&place("restore"), &json!({})).await.unwrap();
    until("it fires again", PATIENCE, async || (receiver.count() > before).then_some(())).await;
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
    setup.verify_ledger().await.unwrap();
}
