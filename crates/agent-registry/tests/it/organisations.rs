//! Organisations: their settings, their limits, pauses, and their end.

use bus::Queue;
use model::document::{Document, DocumentKind, Organisation, Subject};
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, ORG, World, document_where, documents_in, path, start};

fn settings(document: &Document) -> &Organisation {
    let Subject::Organisation(organisation) = &document.subject else { panic!("no organisation") };
    organisation
}

fn root(app: &App<'_>) -> String {
    format!("Bearer {}", app.world.token("root", None, Role::PlatformAdmin))
}

#[tokio::test]
async fn an_organisation_begins_without_limits_and_is_changed_field_by_field() {
    let world = World::new().await;
    let app = world.open().await;
    app.organisation(None).await.ok(404);
    let blank = json!({
        "platform_key": ORG, "timezone": "UTC", "paused": false, "paused_note": "",
        "limits": { "agents_max": null, "runs_in_flight_max": null, "callbacks_in_flight_max": null,
            "requests_per_minute": null },
        "retention": { "logs_days": null, "ticks_days": null, "deliveries_days": null },
        "default_provider": "", "alert_url": "", "alert_secret_set": false, "erasing": false,
        "created_at": "2026-11-21T12:00:00Z",
    });
    assert_eq!(app.organisation(Some(json!({}))).await.ok(200), blank);

    let change = json!({
        "timezone": "Europe/Berlin", "limits": { "runs_in_flight_max": 5, "callbacks_in_flight_max": "7" },
        "retention": { "ticks_days": 3, "deliveries_days": 4 }, "default_provider": "openai",
        "alert_url": "https://alerts.example.com/x", "alert_secret": "whisper",
    });
    let answer = app.organisation(Some(change)).await;
    assert!(!answer.text.contains("whisper"));
    let changed = answer.ok(200);
    assert_eq!(changed["limits"]["callbacks_in_flight_max"], 7);
    assert_eq!((&changed["timezone"], &changed["alert_secret_set"]), (&json!("Europe/Berlin"), &json!(true)));
    let kept = json!({ "limits": { "runs_in_flight_max": null }, "alert_secret": "" });
    let changed = app.organisation(Some(kept)).await.ok(200);
    let limits = (&changed["limits"]["runs_in_flight_max"], &changed["limits"]["callbacks_in_flight_max"]);
    assert_eq!((limits, &changed["alert_secret_set"]), ((&Value::Null, &json!(7)), &json!(true)));

    let mut queue = world.consume(Queue::CallbackDelivererDocuments).await;
    let wanted = |document: &Document| {
        document.kind() == DocumentKind::Organisation && settings(document).runs_in_flight_max.is_none()
    };
    let document = document_where(&mut queue, |document| wanted(document) && settings(document).alert.is_some()).await;
    let told = settings(&document);
    assert_eq!((told.timezone.name(), told.default_provider.as_str()), ("Europe/Berlin", "openai"));
    let days = (told.ticks_days.map(u32::from), told.deliveries_days.map(u32::from));
    assert_eq!((days, told.callbacks_in_flight_max.map(u32::from)), ((Some(3), Some(4)), Some(7)));
    let alert = told.alert.as_ref().unwrap();
    let secret = world.keys.open_text(&alert.sealed_secret, "organisation:acme", "alert_secret").unwrap();
    assert_eq!((alert.url.as_str(), secret.expose().as_str()), ("https://alerts.example.com/x", "whisper"));
    assert_eq!(app.organisation(Some(json!({ "alert_secret": null }))).await.ok(200)["alert_secret_set"], false);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_change_is_said_at_once_and_nothing_is_changed() {
    let world = World::new().await;
    let app = world.open().await;
    app.organisation(Some(json!({}))).await.ok(200);
    let change = json!({
        "timezone": "Mars/Olympus", "paused": "perhaps", "limits": { "agents_max": 0, "requests_per_minute": "many" },
        "retention": { "logs_days": 40_000, "ticks_days": -1 }, "default_provider": "nobody",
        "alert_url": "http://10.0.0.1/x", "catch_up": "some",
    });
    let errors = app.organisation(Some(change)).await.ok(400);
    for path in [
        "/timezone",
        "/paused",
        "/limits/agents_max",
        "/limits/requests_per_minute",
        "/retention/logs_days",
        "/retention/ticks_days",
        "/default_provider",
        "/alert_url",
        "/catch_up",
    ] {
        assert!(errors.pointer(path).is_some_and(|fault| fault[0].is_string()), "{path}: {errors}");
    }
    assert_eq!(errors.as_object().unwrap().len(), 7, "{errors}");
    assert_eq!(app.organisation(None).await.ok(200)["timezone"], "UTC");
    assert_eq!(app.organisation(Some(json!([]))).await.ok(400)["non_field_errors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_organisation_has_at_most_as_many_agents_as_it_may() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.organisation(Some(json!({ "limits": { "agents_max": 1 } }))).await.ok(200);
    let agent = app.agent(&mentor, json!({})).await;
    let body = json!({ "mentor": mentor["id"], "title": "T", "task": { "crontab": {} } });
    assert_eq!(app.post("periodic-agents/", body.clone()).await.ok(403)["code"], "agents_max_reached");
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 1);
    app.patch(&format!("periodic-agents/{}/", agent["id"]), json!({ "title": "Changed" })).await.ok(200);
    assert_eq!(app.delete(&format!("periodic-agents/{}/", agent["id"])).await.status, 204);
    app.post("periodic-agents/", body).await.ok(201);
}

#[tokio::test]
async fn an_organisation_makes_at_most_as_many_requests_a_minute_as_it_may() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.organisation(Some(json!({ "limits": { "requests_per_minute": 6 } }))).await.ok(200);
    for _ in 0..6 {
        app.get("periodic-agents/").await.ok(200);
    }
    let refused = app.get("periodic-agents/").await;
    assert_eq!(refused.headers["retry-after"], "10");
    let text = "Request was throttled. Expected available in 10 seconds.";
    assert_eq!(refused.ok(429), json!({ "detail": text, "code": "throttled" }));
    let other = format!("Bearer {}", world.token("eve", Some("other"), Role::TenantAdmin));
    app.call_as(&other, "GET", &crate::harness::path_in("other", "eve", ""), None).await.ok(200);
    app.call_as(&root(&app), "GET", &path(""), None).await.ok(200);
    app.advance(10).await;
    app.get("periodic-agents/").await.ok(200);
    app.get("periodic-agents/").await.ok(429);
    let unlimited = json!({ "limits": { "requests_per_minute": null } });
    app.call_as(&root(&app), "PATCH", &format!("/api/core/orgs/{ORG}/"), Some(unlimited)).await.ok(200);
    for _ in 0..10 {
        app.get("periodic-agents/").await.ok(200);
    }
}

#[tokio::test]
async fn a_pause_is_in_force_at_the_dispatcher_before_it_is_answered() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let pause = json!({ "paused": true, "paused_note": "Budget" });
    let paused = app.organisation(Some(pause.clone())).await.ok(200);
    assert_eq!((&paused["paused"], &paused["paused_note"]), (&json!(true), &json!("Budget")));
    let handed_over = world.dispatcher.take_handed_over();
    assert!(handed_over.len() == 1 && settings(&handed_over[0]).pause.paused);

    app.organisation(Some(json!({ "timezone": "Asia/Tokyo" }))).await.ok(200);
    assert!(world.dispatcher.take_handed_over().is_empty(), "what can wait goes by the bus");

    world.dispatcher.set_away(true);
    let resume = json!({ "paused": false, "catch_up": "all" });
    let refused = app.organisation(Some(resume.clone())).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(refused.ok(503)["code"], "dispatcher_unavailable");
    world.dispatcher.set_away(false);
    let resumed = app.organisation(Some(resume)).await.ok(200);
    assert_eq!((&resumed["paused"], &resumed["paused_note"]), (&json!(false), &json!("")));
    let document = world.dispatcher.take_handed_over().remove(0);
    let pause = settings(&document).pause;
    assert_eq!((pause.paused, pause.resumed_with.map(model::document::CatchUp::as_str)), (false, Some("all")));
}

#[tokio::test]
async fn everything_is_paused_and_resumed_by_the_platforms_administrators() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let pause = async |what: &str, body: Value| {
        app.call_as(&root(&app), "POST", &format!("/api/core/{what}/"), Some(body)).await
    };
    assert_eq!(pause("pause", json!({ "note": "Moving" })).await.ok(200), json!({ "paused": true, "note": "Moving" }));
    pause("resume", json!({ "catch_up": "latest" })).await.ok(200);
    assert!(pause("resume", json!({ "catch_up": "x" })).await.ok(400)["catch_up"].is_array());
    assert_eq!(
        world.dispatcher.pauses(),
        [
            json!({ "paused": true, "note": "Moving", "catch_up": null }),
            json!({ "paused": false, "note": "", "catch_up": "latest" }),
        ]
    );
    world.dispatcher.set_away(true);
    assert_eq!(pause("pause", json!({})).await.ok(503)["code"], "dispatcher_unavailable");
}

#[tokio::test]
async fn administrators_see_their_own_organisation_in_the_list_and_the_platforms_see_all() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    for organisation in ["beta", "acme", "gamma"] {
        let token = format!("Bearer {}", world.token("u", Some(organisation), Role::TenantAdmin));
        app.call_as(&token, "PATCH", &format!("/api/core/orgs/{organisation}/"), Some(json!({}))).await.ok(200);
    }
    let keys = |page: &Value| -> Vec<String> {
        let results = page["results"].as_array().unwrap();
        results.iter().map(|row| row["platform_key"].as_str().unwrap().to_owned()).collect()
    };
    let own = format!("Bearer {}", world.admin_token());
    assert_eq!(keys(&app.call_as(&own, "GET", "/api/core/orgs/", None).await.ok(200)), ["acme"]);
    let first = app.call_as(&root(&app), "GET", "/api/core/orgs/?page_size=2", None).await.ok(200);
    assert_eq!((keys(&first), &first["count"]), (vec!["acme".to_owned(), "beta".to_owned()], &json!(3)));
}

#[tokio::test]
async fn a_default_provider_of_the_organisation_serves_mentors_that_name_none() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.post("", json!({ "name": "Plain" })).await.ok(201);
    let body = json!({ "mentor": mentor["id"], "title": "T", "task": { "crontab": {} } });
    assert!(app.post("periodic-agents/", body.clone()).await.ok(400)["mentor"].is_array());
    app.organisation(Some(json!({ "default_provider": "openai" }))).await.ok(200);
    app.post("periodic-agents/", body).await.ok(201);
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    document_where(&mut queue, |document| match &document.subject {
        Subject::Mentor(mentor) => mentor.provider.name == "openai",
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn an_erased_organisation_leaves_tombstones_and_nothing_else_and_may_begin_anew() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await;
    let follower = app.agent(&mentor, json!({ "previous_agent": first["id"] })).await;
    let first = first["id"].as_i64().unwrap();
    world.record(vec![pending_run(5, ORG, first, start())]).await;
    world.until_rows("logs", 1).await;
    let key = app.api_key(&world.admin_token(), ORG, "k", json!({})).await;
    app.call_as(&key, "GET", &path(""), None).await.ok(200);
    app.organisation(Some(json!({ "alert_url": "https://a.example.com/", "alert_secret": "s" }))).await.ok(200);

    let admin = format!("Bearer {}", world.admin_token());
    let place = format!("/api/core/orgs/{ORG}/");
    assert_eq!(app.call_as(&admin, "DELETE", &place, None).await.ok(202)["erasing"], true);
    app.call_as(&key, "GET", &path(""), None).await.ok(401);
    for table in ["organisations", "agents", "agent_activity", "mentors", "logs", "log_bodies", "api_keys", "audit_log"]
    {
        world.until_rows(table, 0).await;
    }
    app.organisation(None).await.ok(404);

    let mut queue = world.consume(Queue::CallbackDelivererDocuments).await;
    let (mut gone, mut blank) = (Vec::new(), false);
    while gone.len() < 3 || !blank {
        for document in documents_in(&mut queue).await {
            let name = (document.kind(), document.key());
            match &document.subject {
                Subject::Organisation(told) => blank = *told == Organisation::default(),
                _ if document.is_deleted() && !gone.contains(&name) => gone.push(name),
                _ => {}
            }
        }
    }
    assert!(gone.contains(&(DocumentKind::Agent, follower["id"].to_string())), "{gone:?}");

    app.mentor().await;
    assert_eq!(app.organisation(None).await.ok(200)["alert_secret_set"], false);
}

#[tokio::test]
async fn nothing_new_comes_into_an_organisation_that_is_being_erased() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.organisation(Some(json!({}))).await.ok(200);
    let admin = format!("Bearer {}", world.admin_token());
    for _ in 0..2 {
        app.call_as(&admin, "DELETE", &format!("/api/core/orgs/{ORG}/"), None).await.ok(202);
    }
    for answer in [app.post("", json!({ "name": "Late" })).await, app.organisation(Some(json!({}))).await] {
        assert_eq!(answer.ok(409)["code"], "organisation_erasing");
    }
}
