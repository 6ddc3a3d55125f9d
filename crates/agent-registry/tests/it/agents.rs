//! Periodic agents: shapes, defaults, what a put and a patch change and what they leave.

use crate::harness::World;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn the_least_creation_gets_every_field_with_its_default() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let body = json!({ "mentor": mentor["unique_id"], "title": "  T  ", "task": { "crontab": {} } });
    let created = app.post("periodic-agents/", body).await.ok(201);
    let id = created["id"].as_i64().unwrap();
    assert_eq!(
        created,
        json!({
            "id": id,
            "mentor": mentor["unique_id"],
            "title": "T",
            "username": "admin@acme.example",
            "description": "",
            "prompt": "",
            "task": {
                "id": id,
                "name": format!("{id}: T"),
                "crontab": {
                    "minute": "*", "hour": "*", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*",
                    "timezone": null,
                },
                "one_off": false,
                "start_time": null,
                "enabled": true,
            },
            "created_at": "2026-11-21T12:00:00Z",
            "modified_at": "2026-11-21T12:00:00Z",
            "enabled": true,
            "one_off": false,
            "platform_key": "acme",
            "pathway": "",
            "callback_url": "",
            "callback_secret": "",
            "parent_session_id": "",
            "parent_mentor_id": null,
            "previous_agent": null,
            "previous_agent_status": "success",
            "previous_agent_output": "",
            "next_fire_time": "2026-11-21T12:01:00Z",
            "last_status": "pending",
            "callback_secret_set": false,
            "callback_state": "ok",
            "failing_since": null,
        })
    );

    let read = app.get(&format!("periodic-agents/{id}/")).await.ok(200);
    assert_eq!(read["mentor"]["id"], mentor["id"]);
    assert_eq!(read["mentor"]["unique_id"], mentor["unique_id"]);
    for array in ["categories", "types", "subjects", "mcp_servers"] {
        assert_eq!(read["mentor"][array], json!([]));
    }
    assert_eq!(keys(&read), keys(&created));
}

#[tokio::test]
async fn fields_stand_in_the_order_of_the_published_schema() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].clone();
    let text = app.get(&format!("periodic-agents/{id}/")).await.text;
    let order =
        ["\"id\":", "\"title\":", "\"username\":", "\"task\":", "\"platform_key\":", "\"previous_agent_output\":"];
    let places: Vec<_> = order.iter().map(|key| text.rfind(key).unwrap()).collect();
    assert!(places[1..].is_sorted(), "{text}");
    assert!(!text.contains(": ") || !text.contains(", \""), "not compact: {text}");
}

#[tokio::test]
async fn a_whole_creation_is_kept_and_shown_as_it_was_sent() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let sent = json!({
        "mentor": mentor["id"],
        "title": "Weekly",
        "description": "All that happened",
        "prompt": "Summarise the week",
        "task": {
            "id": 5, "name": "ignored",
            "crontab": { "minute": 30, "hour": "8", "day_of_week": "mon-fri", "timezone": "Europe/Berlin" },
            "one_off": "yes", "start_time": "2026-12-01T00:00:00+01:00", "enabled": 1,
        },
        "pathway": "docs",
        "callback_url": "https://hooks.example.com/x?y=z",
        "callback_secret": "s3cret",
        "parent_session_id": "abc",
        "parent_mentor_id": "-9223372036854775808",
        "enabled": false, "username": "ignored", "unknown": 1,
    });
    let created = app.post("periodic-agents/", sent).await.ok(201);
    assert_eq!(created["mentor"], mentor["id"], "the mentor is named as the request named it");
    assert_eq!(created["task"]["crontab"]["minute"], "30");
    assert_eq!(created["task"]["crontab"]["timezone"], "Europe/Berlin");
    assert_eq!(created["task"]["start_time"], "2026-11-30T23:00:00Z");
    assert_eq!((&created["one_off"], &created["enabled"]), (&json!(true), &json!(true)));
    assert_eq!(created["parent_mentor_id"], json!(i64::MIN));
    assert_eq!(created["callback_secret"], "s3cret");
    assert_eq!(created["callback_secret_set"], true);
    assert_eq!(created["next_fire_time"], "2026-12-01T07:30:00Z");
    let read = app.get(&format!("periodic-agents/{}/", created["id"])).await.ok(200);
    assert_eq!((&read["callback_secret"], &read["callback_secret_set"]), (&json!(""), &json!(true)));
}

#[tokio::test]
async fn a_patch_changes_only_what_it_names() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let crontab = json!({ "minute": "5", "hour": "6", "timezone": "Asia/Tokyo" });
    let task = json!({ "crontab": crontab, "start_time": "2027-01-01", "one_off": true });
    let agent = app.agent(&mentor, json!({ "description": "d", "task": task })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);

    app.advance(60).await;
    let patched = app.patch(&place, json!({ "task": { "crontab": {}, "enabled": false } })).await.ok(200);
    let mut expected = agent.clone();
    expected["modified_at"] = json!("2026-11-21T12:01:00Z");
    expected["enabled"] = json!(false);
    expected["task"]["enabled"] = json!(false);
    expected["next_fire_time"] = Value::Null;
    assert_eq!(patched, expected);

    let patched = app.patch(&place, json!({ "task": { "crontab": { "hour": 7 } } })).await.ok(200);
    assert_eq!(
        (&patched["task"]["crontab"]["minute"], &patched["task"]["crontab"]["hour"]),
        (&json!("5"), &json!("7"))
    );
    assert_eq!(app.patch(&place, json!({})).await.ok(200)["title"], "Daily");
}

#[tokio::test]
async fn a_put_keeps_omitted_fields_but_resets_those_of_the_task() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let task = json!({ "crontab": { "minute": "5", "timezone": "Asia/Tokyo" }, "enabled": false, "one_off": true, "start_time": "2027-01-01" });
    let agent = app.agent(&mentor, json!({ "description": "kept", "prompt": "kept", "task": task })).await;
    let body = json!({ "mentor": mentor["id"], "title": "New", "task": { "crontab": {} } });
    let put = app.put(&format!("periodic-agents/{}/", agent["id"]), body).await.ok(200);
    assert_eq!((&put["title"], &put["description"], &put["prompt"]), (&json!("New"), &json!("kept"), &json!("kept")));
    assert_eq!(put["mentor"], mentor["id"]);
    assert_eq!(put["task"]["crontab"]["minute"], "*");
    assert_eq!(put["task"]["crontab"]["timezone"], "Asia/Tokyo", "what is ours is kept");
    assert_eq!(
        (&put["enabled"], &put["one_off"], &put["task"]["start_time"]),
        (&json!(true), &json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn a_deleted_agent_is_gone_with_its_logs() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let id = agent["id"].as_i64().unwrap();
    world.record(vec![crate::dispatcher_peer::pending_run(7, "acme", id, world.clock.now())]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 1).await;

    let place = format!("periodic-agents/{id}/");
    let answer = app.delete(&place).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    assert!(!answer.headers.contains_key("content-type"));
    let gone = json!({ "detail": "No PeriodicAgent matches the given query." });
    assert_eq!(app.get(&place).await.ok(404), gone);
    assert_eq!(app.delete(&place).await.ok(404), gone);
    assert_eq!(app.get("periodic-agent-logs/").await.ok(200)["count"], 0);
    assert_eq!(
        app.get("periodic-agent-logs/7/").await.ok(404)["detail"],
        "No PeriodicAgentLog matches the given query."
    );
}

#[tokio::test]
async fn who_waits_for_a_deleted_agent_waits_no_more_and_is_turned_off() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await;
    let second = app.agent(&mentor, json!({ "previous_agent": first["id"], "previous_agent_status": "error" })).await;
    assert_eq!((&second["previous_agent"], &second["previous_agent_status"]), (&first["id"], &json!("error")));
    assert_eq!(second["next_fire_time"], Value::Null, "it never fires from its crontab alone");
    assert_eq!(app.delete(&format!("periodic-agents/{}/", first["id"])).await.status, 204);
    let second = app.get(&format!("periodic-agents/{}/", second["id"])).await.ok(200);
    assert_eq!((&second["previous_agent"], &second["enabled"]), (&Value::Null, &json!(false)));
}

#[tokio::test]
async fn agents_never_wait_for_each_other_in_a_circle() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let a = app.agent(&mentor, json!({})).await["id"].clone();
    let b = app.agent(&mentor, json!({ "previous_agent": a })).await["id"].clone();
    let c = app.agent(&mentor, json!({ "previous_agent": b })).await["id"].clone();
    let itself = app.patch(&format!("periodic-agents/{a}/"), json!({ "previous_agent": a })).await.ok(400);
    assert_eq!(itself, json!({ "previous_agent": ["An agent cannot be its own previous agent."] }));
    let circle = app.patch(&format!("periodic-agents/{a}/"), json!({ "previous_agent": c })).await.ok(400);
    assert_eq!(circle, json!({ "previous_agent": ["These agents would wait for each other in a circle."] }));
    let nobody = app.patch(&format!("periodic-agents/{a}/"), json!({ "previous_agent": 999 })).await.ok(400);
    assert_eq!(nobody, json!({ "previous_agent": ["Invalid pk \"999\" - object does not exist."] }));
}

#[tokio::test]
async fn other_methods_are_named_and_a_missing_slash_is_added() {
    let world = World::new().await;
    let app = world.open().await;
    let answer = app.delete("periodic-agents/").await;
    assert_eq!(answer.headers["allow"], "GET, POST, HEAD, OPTIONS");
    assert_eq!(answer.ok(405), json!({ "detail": "Method \"DELETE\" not allowed." }));
    let answer = app.post("periodic-agent-logs/1/", json!({})).await;
    assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS");
    assert_eq!(answer.status, 405);

    for (method, rest) in
        [("GET", "periodic-agents?page=2"), ("POST", "periodic-agents/5"), ("GET", "periodic-agents/statistics")]
    {
        let answer = app.call(method, rest, None).await;
        let (path, query) =
            rest.split_once('?').map_or((rest, String::new()), |(path, query)| (path, format!("?{query}")));
        let location = crate::harness::path(&format!("{path}/{query}"));
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (301, ""));
        assert_eq!(answer.headers["location"], location);
    }
    assert_eq!(app.get("no-such-thing/at-all/").await.ok(404), json!({ "detail": "Not found." }));
    assert_eq!(app.call("HEAD", "periodic-agents/", None).await.text, "");
}

#[tokio::test]
async fn the_public_keys_of_sessions_are_served() {
    let world = World::new().await;
    let app = world.open().await;
    let answer = app.send("GET", "/.well-known/jwks.json", &[], Vec::new()).await;
    assert_eq!(answer.ok(200), json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "s1", "x": "abc" }] }));
}

#[tokio::test]
async fn the_registry_is_ready_once_it_consumes() {
    let world = World::new().await;
    let idle = world.open_with(false).await;
    let unmet: Vec<String> = idle.readiness.unmet().into_keys().collect();
    assert_eq!(unmet, ["agent-registry.database", "agent-registry.documents-held", "agent-registry.runs"]);
    idle.stop().await;
    let app = world.open().await;
    app.mentor().await;
    world.record(Vec::new()).await;
    app.eventually("", |_| app.readiness.is_ready()).await;
}
