//! Requests that are repeated, with an `Idempotency-Key`.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::harness::{Answer, App, ORG, World, path};

async fn post(app: &App<'_>, rest: &str, key: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {}", app.world.admin_token());
    let headers =
        [("authorization", authorization.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
    app.send("POST", &path(rest), &headers, body.to_string().into_bytes()).await
}

fn is_json(headers: &HeaderMap) -> bool {
    headers["content-type"] == "application/json"
}

#[tokio::test]
async fn a_creation_that_is_repeated_makes_one_agent_and_is_answered_alike_secret_included() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let body = json!({
        "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} }, "callback_secret": "s3cret",
    });
    let first = post(&app, "periodic-agents/", "k-1", &body).await;
    assert!(is_json(&first.headers));
    let first = first.ok(201);
    assert_eq!(first["callback_secret"], "s3cret");
    app.patch(&format!("periodic-agents/{}/", first["id"]), json!({ "title": "Changed since" })).await.ok(200);
    assert_eq!(post(&app, "periodic-agents/", "k-1", &body).await.ok(201), first);

    let mut other = body.clone();
    other["title"] = json!("Another");
    assert_eq!(post(&app, "periodic-agents/", "k-1", &other).await.ok(422)["code"], "idempotency_key_reused");
    assert_ne!(post(&app, "periodic-agents/", "k-2", &body).await.ok(201)["id"], first["id"]);
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 2);
    assert_eq!(post(&app, "periodic-agents/", "", &body).await.ok(400)["code"], "idempotency_key_invalid");

    // After its day a key is as new, and nothing of it is left.
    app.advance(86_400).await;
    assert_ne!(post(&app, "periodic-agents/", "k-1", &other).await.ok(201)["id"], first["id"]);
    app.advance(2 * 86_400).await;
    // What is deleted wakes the sweeper.
    app.delete(&format!("periodic-agents/{}/", first["id"])).await.ok(204);
    world.until_rows("idempotency_keys", 0).await;
}

#[tokio::test]
async fn a_refused_creation_leaves_its_key_free() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let bad = json!({ "mentor": mentor["unique_id"], "title": "", "task": { "crontab": {} } });
    post(&app, "periodic-agents/", "k", &bad).await.ok(400);
    let good = json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} } });
    post(&app, "periodic-agents/", "k", &good).await.ok(201);
}

#[tokio::test]
async fn many_at_once_make_one_agent_and_one_run() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let body = json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} } });
    let same = (0..8).map(|_| post(&app, "periodic-agents/", "k", &body));
    let mut answers = futures::future::join_all(same).await;
    let first = answers.remove(0).ok(201);
    answers.into_iter().for_each(|answer| assert_eq!(answer.ok(201), first));
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 1);

    let place = format!("periodic-agents/{}/run/", first["id"]);
    let nothing = json!({});
    let same = (0..8).map(|_| post(&app, &place, "k", &nothing));
    let mut answers = futures::future::join_all(same).await;
    let log = answers.remove(0).ok(202);
    answers.into_iter().for_each(|answer| assert_eq!(answer.ok(202)["id"], log["id"]));
    assert_eq!(world.dispatcher.triggers().len(), 1);
    assert_eq!(app.get("periodic-agent-logs/").await.ok(200)["count"], 1);
}

#[tokio::test]
async fn a_trigger_whose_answer_was_lost_is_repeated_and_runs_once() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/run/", app.agent(&mentor, json!({})).await["id"]);
    let body = json!({ "prompt": "Once" });
    world.dispatcher.set_dies_after_runs(true);
    post(&app, &place, "k", &body).await.ok(503);
    app.stop().await;
    world.dispatcher.set_dies_after_runs(false);
    let app = world.open().await;
    let log = post(&app, &place, "k", &body).await.ok(202);
    assert_eq!((&log["prompt"], world.dispatcher.triggers().len()), (&json!("Once"), 1));
    assert_eq!(post(&app, &place, "k", &body).await.ok(202), log);
    assert_eq!(post(&app, &place, "k", &json!({})).await.ok(422)["code"], "idempotency_key_reused");
    assert_ne!(app.post(&place, body).await.ok(202)["id"], log["id"], "without a key each asking is a run");
}

#[tokio::test]
async fn a_trigger_that_was_answered_is_answered_so_again_whatever_became_of_its_agent() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    let (place, nothing) = (format!("{agent}run/"), json!({}));
    let log = post(&app, &place, "k", &nothing).await.ok(202);

    app.delete(&format!("{}/", mentor["unique_id"].as_str().unwrap())).await;
    assert_eq!(post(&app, &place, "k", &nothing).await.ok(202), log);
    assert_eq!(post(&app, &place, "k-2", &nothing).await.ok(409)["code"], "mentor_deleted");
    app.patch(&agent, json!({ "mentor": app.mentor().await["unique_id"] })).await.ok(200);
    let other = json!({ "prompt": "Now" });
    assert_eq!(post(&app, &place, "k-2", &other).await.ok(202)["prompt"], "Now", "a refusal leaves its key free");
    app.delete(&agent).await;
    assert_eq!(post(&app, &place, "k", &nothing).await.ok(202), log);
    post(&app, &place, "k-3", &nothing).await.ok(404);
}

#[tokio::test]
async fn of_an_erased_organisation_no_request_is_known_any_more() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = json!({
        "name": "Ada", "provider": { "kind": "echo" }, "unique_id": "0b7d1a52-6d7c-4f6e-9a53-2f0f6f1c8d11",
    });
    app.post("", mentor.clone()).await.ok(201);
    let body = json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} } });
    let first = post(&app, "periodic-agents/", "k", &body).await.ok(201);

    let admin = format!("Bearer {}", world.admin_token());
    app.call_as(&admin, "DELETE", &format!("/api/core/orgs/{ORG}/"), None).await.ok(202);
    world.until_rows("organisations", 0).await;
    app.post("", mentor).await.ok(201);
    let again = post(&app, "periodic-agents/", "k", &body).await.ok(201);
    assert_ne!(again["id"], first["id"]);
    app.get(&format!("periodic-agents/{}/", again["id"])).await.ok(200);
}
