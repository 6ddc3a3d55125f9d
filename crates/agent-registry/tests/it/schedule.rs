//! What a schedule will do, and what somebody may do about it.

use model::document::{CatchUp, Pause, Subject};
use model::id::RunId;
use model::run::{SkipReason, Tick, TickOutcome};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{World, start};

#[tokio::test]
async fn upcoming_ticks_are_shown_with_their_local_times_and_what_the_clocks_do_to_them() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let crontab = json!({ "minute": "30", "hour": "2", "timezone": "America/New_York" });
    let agent = app.agent(&mentor, json!({ "task": { "crontab": crontab } })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);

    let answer = app.get(&format!("{place}upcoming/?count=2&from=2027-03-14T00:00:00Z")).await.ok(200);
    let tick = |fire: &str, local: &str, saving: Option<&str>| json!({ "fire_time": fire, "nominal_time": fire, "local_time": local, "daylight_saving": saving });
    let gap = tick("2027-03-14T07:30:00Z", "2027-03-14T03:30:00-04:00", Some("shifted"));
    assert_eq!(answer["results"], json!([gap, tick("2027-03-15T06:30:00Z", "2027-03-15T02:30:00-04:00", None)]));
    assert_eq!(app.get(&format!("{place}upcoming/")).await.ok(200)["results"].as_array().unwrap().len(), 5);

    app.patch(&place, json!({ "task": { "enabled": false } })).await.ok(200);
    assert_eq!(app.get(&format!("{place}upcoming/")).await.ok(200)["results"], json!([]));
    let errors = app.get(&format!("{place}upcoming/?count=101&from=soon")).await.ok(400);
    assert!(errors["count"].is_array() && errors["from"].is_array(), "{errors}");
    let errors = app.get(&format!("{place}upcoming/?count=9223372036854775808")).await.ok(400);
    assert!(errors["count"].is_array(), "{errors}");
    app.get("periodic-agents/999/upcoming/").await.ok(404);
}

#[tokio::test]
async fn a_crontab_is_previewed_in_english_with_warnings_and_refused_as_on_create() {
    let world = World::new().await;
    let app = world.open().await;
    let asked = json!({
        "crontab": { "minute": "*/5", "day_of_month": "13", "day_of_week": "fri" },
        "timezone": "Europe/Berlin", "count": 1, "from": "2026-12-01T00:00:00Z",
    });
    let preview = app.post("crontab/preview/", asked).await.ok(200);
    assert_eq!(
        preview["description"],
        "Every 5 minutes, on day 13 of the month if that is a Friday, by the clocks of Europe/Berlin."
    );
    assert_eq!(preview["ticks"][0]["local_time"], "2027-08-13T00:00:00+02:00");
    let warnings = preview["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");

    let bad = json!({ "crontab": { "minute": "60" }, "timezone": "Mars/Base", "count": 0 });
    let errors = app.post("crontab/preview/", bad).await.ok(400);
    assert!(errors["crontab"]["minute"].is_array(), "{errors}");
    assert!(errors["timezone"].is_array() && errors["count"].is_array(), "{errors}");
    let never = json!({ "crontab": { "day_of_month": "31", "month_of_year": "2" } });
    app.post("crontab/preview/", never).await.ok(400);
    for without in [json!({}), json!({ "timezone": "Europe/Berlin", "count": 3 })] {
        let errors = app.post("crontab/preview/", without).await.ok(400);
        assert_eq!(errors, json!({ "crontab": ["This field is required."] }));
    }
    app.post("crontab/preview/", json!({ "crontab": {} })).await.ok(200);
}

#[tokio::test]
async fn a_run_is_cancelled_and_its_log_says_so_at_once() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let log = app.post(&format!("periodic-agents/{id}/run/"), json!({})).await.ok(202);
    let place = format!("periodic-agent-logs/{}/", log["id"]);

    let cancelled = app.post(&format!("{place}cancel/"), json!({})).await.ok(202);
    assert_eq!((&cancelled["status"], &cancelled["reason"]), (&json!("error"), &json!("cancelled")));
    assert_eq!(app.get(&place).await.ok(200), cancelled);
    assert_eq!(app.post(&format!("{place}cancel/"), json!({})).await.ok(202), cancelled);

    world.dispatcher.know(pending_run(77, "globex", 5, start()));
    app.post("periodic-agent-logs/77/cancel/", json!({})).await.ok(404);
    app.post("periodic-agent-logs/78/cancel/", json!({})).await.ok(404);
    let other = app.post(&format!("periodic-agents/{id}/run/"), json!({})).await.ok(202);
    world.dispatcher.set_away(true);
    let away = app.post(&format!("periodic-agent-logs/{}/cancel/", other["id"]), json!({})).await;
    assert_eq!(away.ok(503)["code"], "dispatcher_unavailable");
}

#[tokio::test]
async fn ticks_are_listed_by_outcome_and_time() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let tick = |outcome| Tick { fire_time: start(), nominal_time: start(), outcome };
    let skipped = TickOutcome::Skipped { reason: SkipReason::Paused, until: start() };
    world.dispatcher.set_ticks(id, vec![tick(TickOutcome::Run(RunId(5))), tick(skipped)]);
    let place = format!("periodic-agents/{id}/ticks/");
    assert_eq!(app.get(&format!("{place}?outcome=run,skipped")).await.ok(200)["count"], 2);
    let answer = app.get(&format!("{place}?outcome=skipped")).await.ok(200);
    assert_eq!((&answer["count"], &answer["results"][0]["reason"]), (&json!(1), &json!("paused")));
    assert_eq!(app.get(&format!("{place}?from=2099-01-01")).await.ok(200)["count"], 0);
    let errors = app.get(&format!("{place}?outcome=run,lost&to=never")).await.ok(400);
    assert!(errors["outcome"].is_array() && errors["to"].is_array(), "{errors}");
}

#[tokio::test]
async fn an_agent_is_paused_and_resumed_at_the_dispatcher_before_it_is_answered() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/");
    let handed_over = || {
        let documents = world.dispatcher.take_handed_over();
        assert_eq!(documents.len(), 3, "the agent and what it leans on");
        documents.into_iter().find_map(|document| match document.subject {
            Subject::Agent(agent) => Some(agent.pause),
            _ => None,
        })
    };
    let paused = app.post(&format!("{place}pause/"), json!({ "note": "asks too much" })).await.ok(200);
    assert_eq!((&paused["paused"], &paused["paused_note"]), (&json!(true), &json!("asks too much")));
    assert_eq!(handed_over(), Some(Pause { paused: true, resumed_with: None }));

    let faults = app.post(&format!("{place}resume/"), json!({ "catch_up": "some" })).await.ok(400);
    assert!(faults["catch_up"].is_array(), "{faults}");
    let resumed = app.post(&format!("{place}resume/"), json!({ "catch_up": "none" })).await.ok(200);
    assert_eq!((&resumed["paused"], &resumed["paused_note"]), (&json!(false), &json!("")));
    assert_eq!(handed_over(), Some(Pause { paused: false, resumed_with: Some(CatchUp::None) }));

    // With the dispatcher away it is kept all the same, and told by the bus.
    world.dispatcher.set_away(true);
    let refused = app.post(&format!("{place}pause/"), json!({})).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(refused.ok(503)["code"], "dispatcher_unavailable");
    assert_eq!(app.get(&place).await.ok(200)["paused"], true);
    app.post("periodic-agents/999/pause/", json!({})).await.ok(404);
}
