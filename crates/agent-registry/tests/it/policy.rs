//! What an agent has beyond the original: how its ticks are kept and what its endpoint is told.

use bus::Queue;
use model::document::{CatchUp, OverlapPolicy, Subject};
use serde_json::{Value, json};

use crate::harness::{World, document_where};

/// The stored fields as a read shows them, null where they are the defaults.
fn policy(agent: &Value) -> Value {
    let task = &agent["task"];
    json!([
        task["end_time"],
        task["jitter_seconds"],
        task["overlap_policy"],
        task["catch_up"],
        task["catch_up_window_seconds"],
        task["max_attempts"],
        task["timeout_seconds"],
        agent["callback_on"],
        agent["callback_options"],
    ])
}

#[tokio::test]
async fn a_client_that_knows_only_the_original_gets_the_defaults_and_its_put_keeps_what_others_set() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let options = json!({ "encrypt": false, "signature_only_hub": false });
    assert_eq!(policy(&agent), json!([null, 0, "allow", "latest", 86400, 1, 600, ["runs"], options]));
    assert_eq!(
        (&agent["paused"], &agent["paused_note"], &agent["callback_state"], &agent["failing_since"]),
        (&json!(false), &json!(""), &json!("ok"), &Value::Null)
    );

    let place = format!("periodic-agents/{}/", agent["id"]);
    let task = json!({
        "crontab": { "minute": "0", "timezone": "Europe/Paris" }, "end_time": "2027-01-01T00:00:00Z", "jitter_seconds": 30,
        "overlap_policy": "queue_one", "catch_up": "all", "catch_up_window_seconds": 3600, "max_attempts": 3,
        "timeout_seconds": 1500,
    });
    let options = json!({ "encrypt": true, "signature_only_hub": false });
    let change = json!({
        "task": task, "callback_secret": "s3cret", "callback_on": ["skipped", "runs"], "callback_options": { "encrypt": true },
    });
    let changed = app.patch(&place, change).await.ok(200);
    let expected = json!(["2027-01-01T00:00:00Z", 30, "queue_one", "all", 3600, 3, 1500, ["runs", "skipped"], options]);
    assert_eq!(policy(&changed), expected);

    let body = json!({ "mentor": mentor["unique_id"], "title": "Put", "task": { "crontab": {} } });
    let put = app.put(&place, body).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(policy(&put.body), expected);
    assert_eq!(put.body["task"]["crontab"]["timezone"], "Europe/Paris");
    assert_eq!(put.body["task"]["crontab"]["minute"], "*");
    // Null is the default again.
    let nulls = json!({
        "task": { "end_time": null, "jitter_seconds": null, "overlap_policy": null, "catch_up": null,
                  "catch_up_window_seconds": null, "max_attempts": null, "timeout_seconds": null },
        "callback_on": null, "callback_options": null,
    });
    assert_eq!(policy(&app.patch(&place, nulls).await.ok(200)), policy(&agent));
    // What was read can be written back.
    let read = app.get(&place).await.ok(200);
    let mut back = read.clone();
    back["mentor"] = mentor["unique_id"].clone();
    assert_eq!(policy(&app.put(&place, back).await.ok(200)), policy(&read));
}

#[tokio::test]
async fn the_dispatcher_and_the_deliverer_are_told_all_of_it() {
    let world = World::new().await;
    let app = world.open().await;
    let group = "6b2f8d1e-8c7e-4b6e-9f3a-111111111111";
    let mentor = app.post("", json!({ "name": "Ada", "provider": { "kind": "echo" }, "service_groups": [group] }));
    let mentor = mentor.await.ok(201);
    let mut documents = world.consume(Queue::CronDispatcherDocuments).await;
    let task = json!({
        "crontab": {}, "end_time": "2027-01-01T00:00:00Z", "jitter_seconds": 30, "overlap_policy": "skip",
        "catch_up": "none", "max_attempts": 3, "timeout_seconds": 60,
    });
    let more = json!({
        "task": task, "callback_url": "https://a.example/", "callback_secret": "s", "callback_on": ["skipped"],
        "callback_options": { "encrypt": true, "signature_only_hub": true },
    });
    let agent = app.agent(&mentor, more).await;
    assert_eq!(agent["task"]["catch_up_window_seconds"], Value::Null, "nothing is caught up");
    let is_mentor = |subject: &Subject| matches!(subject, Subject::Mentor(mentor) if mentor.service_groups == [group]);
    document_where(&mut documents, |document| is_mentor(&document.subject)).await;
    // The same messages hold the agent, before or after it.
    app.patch(&format!("periodic-agents/{}/", agent["id"]), json!({ "description": "again" })).await.ok(200);
    app.patch(&format!("periodic-agents/{}/", agent["id"]), json!({ "prompt": "again" })).await.ok(200);
    let document = document_where(
        &mut documents,
        |document| matches!(&document.subject, Subject::Agent(agent) if agent.prompt == "again"),
    );
    let Subject::Agent(agent) = document.await.subject else { unreachable!("it is an agent") };
    let schedule = agent.schedule;
    assert_eq!(schedule.end_time.unwrap().to_rfc3339(), "2027-01-01T00:00:00+00:00");
    assert_eq!((schedule.jitter.as_secs(), schedule.timeout.as_secs(), schedule.max_attempts.get()), (30, 60, 3));
    assert_eq!((schedule.overlap, schedule.catch_up), (OverlapPolicy::Skip, CatchUp::None));
    let endpoint = agent.endpoint.unwrap();
    assert!(endpoint.encrypt && endpoint.signature_only_hub && endpoint.previous_secret.is_none());
    assert_eq!((endpoint.callback_on.runs, endpoint.callback_on.skipped), (false, true));
}

#[tokio::test]
async fn only_what_moves_ticks_is_a_change_of_timing() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "task": { "crontab": { "minute": "0" } } })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    let timing_version = async || {
        app.post(&format!("{place}run/"), json!({})).await.ok(202);
        let subjects = world.dispatcher.triggers().pop().unwrap().documents.into_iter().map(|one| one.subject);
        let mut agents = subjects.filter_map(|subject| match subject {
            Subject::Agent(agent) => Some(agent.schedule.timing_version),
            _ => None,
        });
        agents.next().unwrap()
    };
    let mut version = timing_version().await;
    for (task, moves) in [
        (json!({ "end_time": "2027-01-01T00:00:00Z" }), true),
        (json!({ "jitter_seconds": 60 }), true),
        (json!({ "crontab": { "timezone": "Europe/Paris" } }), true),
        (json!({ "crontab": { "minute": "5" } }), true),
        (json!({ "start_time": "2026-12-01T00:00:00Z" }), true),
        (json!({ "one_off": true }), true),
        (json!({ "enabled": false }), false),
        (json!({ "enabled": true }), true),
        (json!({ "overlap_policy": "skip" }), false),
        (json!({ "catch_up": "all", "catch_up_window_seconds": 60 }), false),
        (json!({ "max_attempts": 2, "timeout_seconds": 10 }), false),
        (json!({ "enabled": true, "jitter_seconds": 60 }), false),
    ] {
        app.patch(&place, json!({ "task": task })).await.ok(200);
        let now = timing_version().await;
        assert_eq!(now > version, moves, "{task}");
        version = now;
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_field_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "task": { "crontab": { "minute": "*/5" } } })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    for (change, field, message) in [
        (json!({ "task": { "end_time": "2026-11-21T12:04:00Z" } }), "/task/end_time", "no tick left"),
        (json!({ "task": { "end_time": "2020-01-01T00:00:00Z" } }), "/task/end_time", "no tick left"),
        (
            json!({ "task": { "start_time": "2027-01-02T00:00:00Z", "end_time": "2027-01-02T00:00:00Z" } }),
            "/task/end_time",
            "later than `start_time`",
        ),
        (json!({ "task": { "jitter_seconds": 300 } }), "/task/jitter_seconds", "300 seconds"),
        (json!({ "task": { "jitter_seconds": -1 } }), "/task/jitter_seconds", "greater than or equal to 0"),
        (json!({ "task": { "overlap_policy": "both" } }), "/task/overlap_policy", "\"both\" is not a valid choice."),
        (json!({ "task": { "catch_up": "some" } }), "/task/catch_up", "\"some\" is not a valid choice."),
        (
            json!({ "task": { "catch_up": "none", "catch_up_window_seconds": 60 } }),
            "/task/catch_up_window_seconds",
            "Nothing is caught up",
        ),
        (json!({ "task": { "catch_up_window_seconds": 0 } }), "/task/catch_up_window_seconds", "equal to 1"),
        (json!({ "task": { "max_attempts": 0 } }), "/task/max_attempts", "greater than or equal to 1"),
        (json!({ "task": { "timeout_seconds": 1501 } }), "/task/timeout_seconds", "less than or equal to 1500"),
        (json!({ "task": { "timeout_seconds": "soon" } }), "/task/timeout_seconds", "A valid integer is required."),
        (json!({ "callback_on": [] }), "/callback_on", "may not be empty"),
        (json!({ "callback_on": "runs" }), "/callback_on", "Expected a list of items but got type \"str\"."),
        (json!({ "callback_on": ["runs", "x"] }), "/callback_on", "\"x\" is not a valid choice."),
        (json!({ "callback_options": { "encrypt": true } }), "/callback_options/encrypt", "Needs a `callback_secret`."),
        (
            json!({ "callback_options": { "signature_only_hub": "x" } }),
            "/callback_options/signature_only_hub",
            "Must be a valid boolean.",
        ),
        (json!({ "callback_options": [] }), "/callback_options/non_field_errors", "Expected a dictionary"),
    ] {
        let errors = app.patch(&place, change.clone()).await.ok(400);
        let found = errors.pointer(field).and_then(|faults| faults[0].as_str());
        assert!(found.is_some_and(|found| found.contains(message)), "{change}: {errors}");
    }
    assert_eq!(policy(&app.get(&place).await.ok(200)), policy(&agent));

    let secret = json!({ "callback_secret": "s", "callback_options": { "encrypt": true } });
    app.patch(&place, secret).await.ok(200);
    let errors = app.patch(&place, json!({ "callback_secret": null })).await.ok(400);
    assert!(errors["callback_secret"][0].as_str().unwrap().contains("`callback_options.encrypt`"), "{errors}");
    let both = json!({ "callback_secret": null, "callback_options": { "encrypt": false } });
    assert_eq!(app.patch(&place, both).await.ok(200)["callback_secret_set"], false);
}

#[tokio::test]
async fn an_agent_whose_end_has_come_can_still_be_edited_but_not_turned_on_again() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "task": { "crontab": {}, "end_time": "2026-11-21T12:10:00Z" } })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    app.advance(3_600).await;
    app.patch(&place, json!({ "title": "Over", "task": { "end_time": "2026-11-21T12:10:00Z" } })).await.ok(200);
    let off = app.patch(&place, json!({ "task": { "enabled": false } })).await.ok(200);
    assert_eq!(off["next_fire_time"], Value::Null);
    let errors = app.patch(&place, json!({ "task": { "enabled": true } })).await.ok(400);
    assert!(errors["task"]["end_time"][0].as_str().unwrap().contains("no tick left"), "{errors}");
}
