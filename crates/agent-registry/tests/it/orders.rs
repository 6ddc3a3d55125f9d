//! Lists are in the order of what they show.

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use model::run::{RunReason, RunRecord, RunResult, RunState};
use serde_json::{Value, json};

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, ORG, World};

/// By scalars of one kind.
fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.as_i64().cmp(&right.as_i64()),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        _ => panic!("{left} and {right} are not compared"),
    }
}

/// What a list shows in this field, in the list's order.
async fn shown(app: &App<'_>, list: &str, field: &str) -> Vec<Value> {
    let page = app.get(list).await.ok(200);
    page["results"].as_array().unwrap().iter().map(|one| one[field].clone()).collect()
}

/// Asks for a list in the order of a field, both ways: null comes last.
async fn assert_in_order(app: &App<'_>, list: &str, field: &str) {
    for down in [false, true] {
        let sign = if down { "-" } else { "" };
        let values = shown(app, &format!("{list}?ordering={sign}{field}"), field).await;
        let mut expected = values.clone();
        expected.sort_by(|left, right| match (left.is_null(), right.is_null()) {
            (false, false) if down => compare(right, left),
            (false, false) => compare(left, right),
            (left, right) => left.cmp(&right),
        });
        assert_eq!(values, expected, "{list} by {sign}{field}");
    }
}

/// The scalars that a list shows, and those of them in which its entries differ.
async fn scalars(app: &App<'_>, list: &str) -> (Vec<String>, Vec<String>) {
    let page = app.get(list).await.ok(200);
    let entries = page["results"].as_array().unwrap();
    let is_scalar = |name: &&String| !entries.iter().any(|one| one[*name].is_object() || one[*name].is_array());
    let names: Vec<String> = entries[0].as_object().unwrap().keys().filter(is_scalar).cloned().collect();
    let differ = |name: &&String| entries.iter().any(|one| one[*name] != entries[0][*name]);
    let differing = names.iter().filter(differ).cloned().collect();
    (names, differing)
}

fn log(id: i64, agent_id: i64, requested_at: DateTime<Utc>, late: i64) -> RunRecord {
    let mut record = pending_run(id, ORG, agent_id, requested_at);
    record.run.fire_time = requested_at - TimeDelta::seconds(late);
    record.run.nominal_time = record.run.fire_time - TimeDelta::seconds(id);
    record.run.sequence = 100 - id;
    record
}

/// Logs that were requested, and have started and ended, or have not, at various times.
async fn some_logs(app: &App<'_>) {
    let world = app.world;
    let agent = app.agent(&app.mentor().await, json!({})).await["id"].as_i64().unwrap();
    let at = |seconds: i64| world.clock.now() + TimeDelta::seconds(seconds);
    let ended = |record: RunRecord, start: i64, end: i64, reason: Option<RunReason>| RunRecord {
        state: if reason.is_some() { RunState::Error } else { RunState::Success },
        started_at: Some(at(start)),
        ended_at: Some(at(end)),
        result: Some(RunResult { reason, ..RunResult::default() }),
        ..record
    };
    let running = RunRecord { state: RunState::Running, started_at: Some(at(11)), ..log(22, agent, at(10), 7) };
    world
        .record(vec![
            ended(log(21, agent, at(0), 5), 1, 3, None),
            running,
            log(23, agent, at(5), -3),
            ended(log(24, agent, at(2), 2), 7, 8, Some(RunReason::Lost)),
            ended(log(25, agent, at(1), 0), 12, 20, Some(RunReason::ProviderFailed)),
        ])
        .await;
    world.until_rows("logs", 5).await;
}

#[tokio::test]
async fn logs_are_in_the_order_of_the_times_that_they_show() {
    let world = World::new().await;
    let app = world.open().await;
    some_logs(&app).await;
    let list = "periodic-agent-logs/";
    for field in ["start_time", "modified_at", "end_time", "created_at"] {
        assert_in_order(&app, list, field).await;
    }
    // What runs has changed later than what ended before it began.
    assert_eq!(shown(&app, &format!("{list}?ordering=-modified_at"), "id").await, [25, 22, 24, 23, 21]);
}

#[tokio::test]
async fn logs_can_be_ordered_by_every_scalar_that_they_show() {
    let world = World::new().await;
    let app = world.open().await;
    some_logs(&app).await;
    let list = "periodic-agent-logs/";
    let (names, differing) = scalars(&app, list).await;
    assert!(["lateness_ms", "state", "reason", "sequence"].iter().all(|name| differing.contains(&(*name).to_owned())));
    // Texts of megabytes are in no order.
    for name in names.iter().filter(|name| !["content", "agent_output", "prompt"].contains(&name.as_str())) {
        assert_in_order(&app, list, name).await;
    }
}

#[tokio::test]
async fn agents_can_be_ordered_by_every_scalar_that_they_show() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let mut ids = Vec::new();
    for (title, more) in [
        ("a", json!({ "callback_url": "https://a.example/x", "callback_secret": "s" })),
        ("b", json!({ "parent_mentor_id": 7, "pathway": "p" })),
        ("c", json!({ "task": { "crontab": {}, "enabled": false } })),
        ("d", json!({ "description": "d", "prompt": "p" })),
        ("e", json!({})),
    ] {
        let mut more = more;
        more["title"] = json!(title);
        ids.push(app.agent(&mentor, more).await["id"].as_i64().unwrap());
        app.advance(1).await;
    }
    app.post(&format!("periodic-agents/{}/pause/", ids[1]), json!({ "note": "why" })).await.ok(200);
    app.post(&format!("periodic-agents/{}/pause/", ids[3]), json!({ "note": "because" })).await.ok(200);
    let mut failed = log(21, ids[1], world.clock.now(), 0);
    failed.state = RunState::Error;
    failed.result = Some(RunResult { reason: Some(RunReason::Lost), ..RunResult::default() });
    let mut succeeded = log(22, ids[3], world.clock.now(), 0);
    succeeded.state = RunState::Success;
    succeeded.result = Some(RunResult::default());
    world.record(vec![failed, succeeded]).await;
    world.until_rows("logs", 2).await;
    let unwell = |id: i64, state: &str, since: &str| json!({ "periodic_agent": id, "callback_state": state, "failing_since": since });
    world.deliverer.set_not_well(json!([
        unwell(ids[0], "failing", "2026-11-18T00:00:00Z"),
        unwell(ids[2], "disabled", "2026-11-16T00:00:00Z"),
        unwell(ids[4], "failing", "2026-11-17T00:00:00Z"),
    ]));
    app.advance(5).await;
    let list = "periodic-agents/";
    app.eventually(list, |page| page["results"][0]["callback_state"] == "failing").await;

    let (names, differing) = scalars(&app, list).await;
    let varied = ["paused", "paused_note", "callback_state", "failing_since", "callback_secret_set", "last_status"];
    assert!(varied.iter().all(|name| differing.contains(&(*name).to_owned())), "{differing:?}");
    // An output is of another table, and may be long; a secret is never shown.
    for name in names.iter().filter(|name| !["previous_agent_output", "callback_secret"].contains(&name.as_str())) {
        assert_in_order(&app, list, name).await;
    }
}
