//! Whatever is said of a schedule that cannot be meant is refused when it is written, with the field and the reason, by
//! every way to write it; and changes nothing.

use serde_json::{Value, json};

use crate::harness::World;

/// What a request says beside what is fine, the field that is named, and a part of the reason.
type Refused = (Value, &'static str, &'static str);

fn task(task: Value) -> Value {
    json!({ "task": task })
}

/// The clock stands at 2026-11-21T12:00:00Z; the agent fires every five minutes.
fn crontabs() -> Vec<Refused> {
    let crontab = |fields: Value| task(json!({ "crontab": fields }));
    vec![
        (
            crontab(json!({ "day_of_month": "31", "month_of_year": "2" })),
            "/task/crontab/non_field_errors",
            "Never fires",
        ),
        (
            crontab(json!({ "day_of_month": "30-31", "month_of_year": "feb" })),
            "/task/crontab/non_field_errors",
            "Never fires",
        ),
        (crontab(json!({ "minute": "60" })), "/task/crontab/minute", "60"),
        (crontab(json!({ "minute": "*/0" })), "/task/crontab/minute", ""),
        (crontab(json!({ "minute": "5/10" })), "/task/crontab/minute", ""),
        (crontab(json!({ "minute": "" })), "/task/crontab/minute", "blank"),
        (crontab(json!({ "hour": "1, 2" })), "/task/crontab/hour", ""),
        (crontab(json!({ "day_of_month": "L" })), "/task/crontab/day_of_month", ""),
        (crontab(json!({ "day_of_week": "8" })), "/task/crontab/day_of_week", "8"),
        (crontab(json!({ "timezone": "Mars/Olympus" })), "/task/crontab/timezone", "not the name of an IANA"),
        (crontab(json!({ "timezone": "+02:00" })), "/task/crontab/timezone", "not the name of an IANA"),
        (crontab(json!({ "timezone": 2 })), "/task/crontab/timezone", ""),
    ]
}

fn times() -> Vec<Refused> {
    let day = "2026-12-01T00:00:00Z";
    vec![
        (task(json!({ "start_time": "tomorrow" })), "/task/start_time", "wrong format"),
        (task(json!({ "start_time": "9999-12-31T23:58:00Z" })), "/task/start_time", "no tick from then on"),
        (task(json!({ "start_time": day, "end_time": day })), "/task/end_time", "later than `start_time`"),
        (
            task(json!({ "start_time": day, "end_time": "2026-11-30T00:00:00Z" })),
            "/task/end_time",
            "later than `start_time`",
        ),
        (task(json!({ "end_time": "2026-11-21T11:00:00Z" })), "/task/end_time", "no tick left"),
        (task(json!({ "end_time": "2026-11-21T12:05:00Z" })), "/task/end_time", "no tick left"),
        (
            task(json!({ "start_time": "2026-12-01T00:00:01Z", "end_time": "2026-12-01T00:05:00Z" })),
            "/task/end_time",
            "no tick left",
        ),
        (task(json!({ "one_off": true, "end_time": "2026-11-21T12:04:59Z" })), "/task/end_time", "no tick left"),
        (task(json!({ "one_off": "maybe" })), "/task/one_off", "boolean"),
        (task(json!({ "enabled": [] })), "/task/enabled", "boolean"),
    ]
}

fn policies() -> Vec<Refused> {
    vec![
        (task(json!({ "jitter_seconds": -1 })), "/task/jitter_seconds", "equal to 0"),
        (task(json!({ "jitter_seconds": 1.5 })), "/task/jitter_seconds", "integer"),
        (task(json!({ "jitter_seconds": 86_401 })), "/task/jitter_seconds", "equal to 86400"),
        (task(json!({ "jitter_seconds": 300 })), "/task/jitter_seconds", "which is 300 seconds"),
        (task(json!({ "overlap_policy": "both" })), "/task/overlap_policy", "not a valid choice"),
        (task(json!({ "overlap_policy": 1 })), "/task/overlap_policy", "not a valid choice"),
        (task(json!({ "catch_up": "some" })), "/task/catch_up", "not a valid choice"),
        (task(json!({ "catch_up_window_seconds": 0 })), "/task/catch_up_window_seconds", "equal to 1"),
        (task(json!({ "catch_up_window_seconds": 31_536_001 })), "/task/catch_up_window_seconds", "equal to 31536000"),
        (
            task(json!({ "catch_up": "none", "catch_up_window_seconds": 60 })),
            "/task/catch_up_window_seconds",
            "Nothing is caught up",
        ),
        (task(json!({ "one_off": true, "catch_up": "none" })), "/task/catch_up", "`one_off`"),
        (task(json!({ "max_attempts": 0 })), "/task/max_attempts", "equal to 1"),
        (task(json!({ "max_attempts": 101 })), "/task/max_attempts", "equal to 100"),
        (task(json!({ "timeout_seconds": 0 })), "/task/timeout_seconds", "equal to 1"),
        (task(json!({ "timeout_seconds": 1_501 })), "/task/timeout_seconds", "equal to 1500"),
        (task(json!({ "timeout_seconds": "soon" })), "/task/timeout_seconds", "integer"),
    ]
}

/// `first` is an agent that there is.
fn chains(first: &Value) -> Vec<Refused> {
    let follower = |task: Value| json!({ "previous_agent": first, "task": task });
    vec![
        (json!({ "previous_agent": 999_999 }), "/previous_agent", "does not exist"),
        (json!({ "previous_agent": "x" }), "/previous_agent", ""),
        (json!({ "previous_agent_status": "done" }), "/previous_agent_status", "not a valid choice"),
        (follower(json!({ "jitter_seconds": 10 })), "/task/jitter_seconds", "`previous_agent`"),
        (follower(json!({ "catch_up": "all" })), "/task/catch_up", "`previous_agent`"),
        (follower(json!({ "catch_up": "none" })), "/task/catch_up", "`previous_agent`"),
    ]
}

/// Lays what a request says over what is fine.
fn over(fine: &Value, said: &Value) -> Value {
    match (fine, said) {
        (Value::Object(fine), Value::Object(said)) => {
            let mut both = fine.clone();
            for (key, value) in said {
                let below = fine.get(key).unwrap_or(&Value::Null);
                both.insert(key.clone(), over(below, value));
            }
            Value::Object(both)
        }
        _ => said.clone(),
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_every_way_to_write_it_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].clone();
    let fine = json!({
        "mentor": mentor["unique_id"], "title": "Fine", "task": { "crontab": { "minute": "*/5" } },
    });
    let agent = app.post("periodic-agents/", fine.clone()).await.ok(201);
    let place = format!("periodic-agents/{}/", agent["id"]);
    let before = app.get(&place).await.ok(200);
    let mut wrong = Vec::new();
    for (said, field, why) in [crontabs(), times(), policies(), chains(&first)].concat() {
        let whole = over(&fine, &said);
        let answers = [
            ("POST", app.post("periodic-agents/", whole.clone()).await),
            ("PUT", app.put(&place, whole).await),
            ("PATCH", app.patch(&place, said.clone()).await),
        ];
        for (method, answer) in answers {
            let reason = answer.body.pointer(field).and_then(|faults| faults[0].as_str());
            if answer.status != 400 || reason.is_none_or(|reason| reason.is_empty() || !reason.contains(why)) {
                wrong.push(format!("{method} {said}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(app.get(&place).await.ok(200), before);
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 2);
}

#[tokio::test]
async fn agents_that_wait_for_themselves_are_refused_and_one_step_at_a_time_brings_no_contradiction_together() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].clone();
    let second = app.agent(&mentor, json!({ "previous_agent": first })).await["id"].clone();
    let place = |id: &Value| format!("periodic-agents/{id}/");
    for (id, previous) in [(&first, &first), (&first, &second)] {
        let errors = app.patch(&place(id), json!({ "previous_agent": previous })).await.ok(400);
        assert!(errors["previous_agent"].is_array(), "{errors}");
    }
    // Each of them is fine by itself.
    for (one, other, field) in [
        (task(json!({ "catch_up": "none" })), task(json!({ "one_off": true })), "catch_up"),
        (task(json!({ "one_off": true })), task(json!({ "catch_up": "none" })), "catch_up"),
        (task(json!({ "jitter_seconds": 30 })), json!({ "previous_agent": first }), "jitter_seconds"),
        (task(json!({ "catch_up": "all" })), json!({ "previous_agent": first }), "catch_up"),
        (task(json!({ "jitter_seconds": 250 })), task(json!({ "crontab": { "minute": "*/4" } })), "jitter_seconds"),
        (
            task(json!({ "enabled": false, "end_time": "2020-01-01T00:00:00Z" })),
            task(json!({ "enabled": true })),
            "end_time",
        ),
    ] {
        let agent = app.agent(&mentor, json!({ "task": { "crontab": { "minute": "*/5" } } })).await;
        app.patch(&place(&agent["id"]), one.clone()).await.ok(200);
        let errors = app.patch(&place(&agent["id"]), other.clone()).await.ok(400);
        assert!(errors["task"][field].is_array(), "{one}, then {other}: {errors}");
        app.patch(&place(&agent["id"]), json!({ "title": "Still edited" })).await.ok(200);
    }
}

#[tokio::test]
async fn what_an_organisation_cannot_mean_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let before = app.organisation(None).await.ok(200);
    for (said, field, why) in [
        (json!({ "timezone": "Mars/Olympus" }), "/timezone", "no IANA time zone"),
        (json!({ "timezone": "" }), "/timezone", "blank"),
        (json!({ "timezone": null }), "/timezone", "null"),
        (json!({ "paused": "maybe" }), "/paused", "boolean"),
        (json!({ "catch_up": "some", "paused": false }), "/catch_up", "not a valid choice"),
        (json!({ "catch_up": "all" }), "/catch_up", "only with `paused` false"),
        (json!({ "catch_up": "all", "paused": true }), "/catch_up", "only with `paused` false"),
        (json!({ "paused_note": "why?" }), "/paused_note", "Only a pause"),
        (json!({ "paused_note": "why?", "paused": false }), "/paused_note", "Only a pause"),
        (json!({ "limits": { "runs_in_flight_max": 0 } }), "/limits/runs_in_flight_max", "equal to 1"),
        (json!({ "limits": { "agents_max": 1.5 } }), "/limits/agents_max", "integer"),
        (json!({ "retention": { "ticks_days": 0 } }), "/retention/ticks_days", "equal to 1"),
    ] {
        let errors = app.organisation(Some(said.clone())).await.ok(400);
        let reason = errors.pointer(field).and_then(|faults| faults[0].as_str());
        assert!(reason.is_some_and(|reason| reason.contains(why)), "{said}: {errors}");
    }
    assert_eq!(app.organisation(None).await.ok(200), before);
}
