//! Runs made now, and ticks: what only the dispatcher does or knows.

use model::document::DocumentKind;
use model::id::RunId;
use model::run::{SkipReason, Tick, TickOutcome};
use serde_json::json;

use crate::harness::{World, start};

#[tokio::test]
async fn a_triggered_run_is_in_the_log_at_once_and_is_of_the_agent_as_it_was_last_saved() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({ "prompt": "old" })).await["id"].as_i64().unwrap();
    app.patch(&format!("periodic-agents/{id}/"), json!({ "prompt": "new" })).await.ok(200);

    let log = app.post(&format!("periodic-agents/{id}/run/"), json!({})).await.ok(202);
    assert_eq!(
        (&log["status"], &log["state"], &log["trigger"]),
        (&json!("running"), &json!("pending"), &json!("manual"))
    );
    assert_eq!((&log["prompt"], &log["periodic_agent"]), (&json!("new"), &json!(id)));
    let listed = app.get("periodic-agent-logs/").await.ok(200);
    assert_eq!(listed["results"], json!([log]));
    assert_eq!(app.get("periodic-agents/statistics/").await.ok(200)["running_tasks"], 1);

    let trigger = world.dispatcher.triggers().remove(0);
    let kinds: Vec<_> = trigger.documents.iter().map(|document| document.kind()).collect();
    assert_eq!(kinds, [DocumentKind::Organisation, DocumentKind::Mentor, DocumentKind::Agent]);
    assert_eq!((trigger.prompt, trigger.nominal_time), (None, None));
}

#[tokio::test]
async fn a_trigger_may_bring_its_own_prompt_and_moment() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/run/", app.agent(&mentor, json!({})).await["id"]);
    let body = json!({ "prompt": "Just this once", "nominal_time": "2026-11-01T00:00:00+01:00" });
    let log = app.post(&place, body).await.ok(202);
    assert_eq!((&log["prompt"], &log["nominal_time"]), (&json!("Just this once"), &json!("2026-10-31T23:00:00Z")));
    let errors = app.post(&place, json!({ "prompt": [], "nominal_time": "zz" })).await.ok(400);
    assert_eq!(errors["prompt"], json!(["Not a valid string."]));
    assert!(errors["nominal_time"].is_array());
    assert_eq!(world.dispatcher.triggers().len(), 1);
}

#[tokio::test]
async fn with_the_dispatcher_away_only_what_needs_it_waits() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    world.dispatcher.set_away(true);
    for answer in [app.post(&format!("{place}run/"), json!({})).await, app.get(&format!("{place}ticks/")).await] {
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(answer.ok(503)["code"], "dispatcher_unavailable");
    }
    app.patch(&place, json!({ "title": "Still here" })).await.ok(200);
    assert_eq!(app.get("periodic-agent-logs/").await.ok(200)["count"], 0);
    world.dispatcher.set_away(false);
    app.post(&format!("{place}run/"), json!({})).await.ok(202);
}

#[tokio::test]
async fn ticks_are_passed_on_page_by_page() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/ticks/");
    assert_eq!(app.get(&place).await.ok(200)["count"], 0, "the dispatcher has not heard of it yet");

    let minute = |n: i64| start() - chrono::TimeDelta::minutes(n);
    let run = |n: i64| Tick { fire_time: minute(n), nominal_time: minute(n), outcome: TickOutcome::Run(RunId(n)) };
    let skipped = TickOutcome::Skipped { reason: SkipReason::Coalesced, until: minute(1) };
    let span = Tick { fire_time: minute(5), nominal_time: minute(5), outcome: skipped };
    world.dispatcher.set_ticks(id, vec![run(1), span, run(6)]);
    let first = app.get(&format!("{place}?page_size=2")).await.ok(200);
    assert_eq!(
        first["results"],
        json!([
            { "fire_time": "2026-11-21T11:59:00Z", "nominal_time": "2026-11-21T11:59:00Z", "outcome": "run",
              "reason": null, "log_id": 1, "until": null },
            { "fire_time": "2026-11-21T11:55:00Z", "nominal_time": "2026-11-21T11:55:00Z", "outcome": "skipped",
              "reason": "coalesced", "log_id": null, "until": "2026-11-21T11:59:00Z" },
        ])
    );
    assert!(first["next"].as_str().unwrap().ends_with("ticks/?page=2&page_size=2"));
    let last = app.get(&format!("{place}?page_size=2&page=last")).await.ok(200);
    assert_eq!(last["results"][0]["log_id"], 6);
    assert_eq!(app.get(&format!("{place}?page=3&page_size=2")).await.ok(404)["detail"], "Invalid page.");
}
