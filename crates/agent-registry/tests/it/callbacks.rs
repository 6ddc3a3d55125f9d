//! `/api/callbacks/`: the door to what the deliverer knows; and the whole logs of callbacks that carried a beginning.

use chrono::TimeDelta;
use model::run::{RunResult, RunState};
use serde_json::{Value, json};
use service_kit::auth::Role;
use service_kit::signed_link;

use crate::dispatcher_peer::pending_run;
use crate::harness::{Answer, App, ORG, World, start};

async fn ask(app: &App<'_>, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    app.send(method, path, &headers, body).await
}

#[tokio::test]
async fn a_page_of_deliveries_is_asked_for_within_the_organisation_and_linked_to_its_neighbours() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    world.deliverer.set_answer(200, json!({ "count": 5, "results": [{ "id": 3 }, { "id": 2 }] }));
    let path = "/api/callbacks/orgs/acme/deliveries/?status=exhausted&page=2&page_size=2&organisation=other&x=1";
    let page = ask(&app, "GET", path, &world.admin_token(), None).await.ok(200);
    assert_eq!((&page["count"], &page["results"][0]["id"]), (&json!(5), &json!(3)));
    assert!(page["next"].as_str().unwrap().contains("page=3"), "{page}");
    let asked = world.deliverer.asked().remove(0).0;
    assert_eq!(asked, "GET /internal/deliveries?organisation=acme&page=2&page_size=2&status=exhausted");
    app.stop().await;
}

#[tokio::test]
async fn filters_of_deliveries_are_read_as_those_of_other_lists() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let list = "/api/callbacks/orgs/acme/deliveries/";
    world.deliverer.set_answer(200, json!({ "count": 0, "results": [] }));
    for (after, asked) in [
        ("2026-03-01", "2026-03-01T00:00:00.000000Z"),
        ("2026-03-01T12:00:00", "2026-03-01T12:00:00.000000Z"),
        ("2026-03-01%2012:00", "2026-03-01T12:00:00.000000Z"),
        ("2026-03-01T12:00:00.25%2B02:00", "2026-03-01T10:00:00.250000Z"),
    ] {
        let query = format!("{list}?created_after={after}&periodic_agent=7&log=");
        ask(&app, "GET", &query, &world.admin_token(), None).await.ok(200);
        let question = world.deliverer.asked().pop().unwrap().0.replace("%3A", ":");
        let filter = format!("&periodic_agent=7&created_after={asked}");
        assert!(question.ends_with(&filter), "{question}");
    }
    let before = world.deliverer.asked().len();
    let wrong = format!("{list}?created_after=x&periodic_agent=x&log=1.5");
    let errors = ask(&app, "GET", &wrong, &world.admin_token(), None).await.ok(400);
    let no_such = "Select a valid choice. That choice is not one of the available choices.";
    let expected = json!({ "created_after": [BAD_DATETIME], "periodic_agent": [no_such], "log": [no_such] });
    assert_eq!(errors, expected);
    assert_eq!(world.deliverer.asked().len(), before);
    app.stop().await;
}

#[tokio::test]
async fn each_route_is_forwarded_within_the_organisation() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let base = "/api/callbacks/orgs/acme";
    world.deliverer.set_answer(202, json!({ "id": 1 }));
    for (method, path, asked) in [
        ("GET", "deliveries/41/", "GET /internal/deliveries/41?organisation=acme"),
        ("POST", "deliveries/41/replay/", "POST /internal/deliveries/41/replay?organisation=acme"),
        ("GET", "replays/1/", "GET /internal/replays/1?organisation=acme"),
        ("GET", "endpoints/7/", "GET /internal/endpoints/7?organisation=acme"),
        ("POST", "endpoints/7/test/", "POST /internal/endpoints/7/test?organisation=acme"),
        ("POST", "endpoints/7/enable/", "POST /internal/endpoints/7/enable?organisation=acme"),
    ] {
        ask(&app, method, &format!("{base}/{path}"), &world.admin_token(), None).await.ok(202);
        assert_eq!(world.deliverer.asked().pop().unwrap().0, asked);
    }
    let since = json!({ "since": "2026-11-20T00:00:00Z", "periodic_agent": 7, "organisation": "other" });
    ask(&app, "POST", &format!("{base}/replays/"), &world.admin_token(), Some(since)).await.ok(202);
    let (asked, body) = world.deliverer.asked().pop().unwrap();
    assert_eq!((asked.as_str(), &body["organisation"]), ("POST /internal/replays", &json!("acme")));
    app.stop().await;
}

const BAD_DATETIME: &str = "Datetime has wrong format. Use one of these formats instead: \
    YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].";

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let base = "/api/callbacks/orgs/acme";
    let token = world.admin_token();
    for (body, expected) in [
        (json!({}), json!({ "since": ["This field is required."] })),
        (json!({ "since": "x" }), json!({ "since": [BAD_DATETIME] })),
        (
            json!({ "since": "2026-11-20T00:00:00Z", "periodic_agent": "x" }),
            json!({ "periodic_agent": ["A valid integer is required."] }),
        ),
    ] {
        assert_eq!(ask(&app, "POST", &format!("{base}/replays/"), &token, Some(body)).await.ok(400), expected);
    }
    ask(&app, "GET", &format!("{base}/deliveries/x/"), &token, None).await.ok(404);
    ask(&app, "PUT", &format!("{base}/deliveries/"), &token, None).await.ok(405);
    ask(&app, "GET", &format!("{base}/nothing/"), &token, None).await.ok(404);
    assert_eq!(world.deliverer.asked(), []);
    world.deliverer.set_answer(404, json!({ "detail": "No Delivery matches the given query." }));
    let missing = ask(&app, "GET", &format!("{base}/deliveries/1/"), &token, None).await.ok(404);
    assert_eq!(missing["detail"], "No Delivery matches the given query.");
    app.stop().await;
}

#[tokio::test]
async fn only_administrators_of_the_organisation_get_in() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    world.deliverer.set_answer(200, json!({ "id": 1 }));
    let path = "/api/callbacks/orgs/acme/deliveries/1/";
    let of = |org: Option<&str>, role: Role| world.token("ada", org, role);
    app.send("GET", path, &[], Vec::new()).await.ok(401);
    ask(&app, "GET", path, &of(Some("other"), Role::TenantAdmin), None).await.ok(403);
    ask(&app, "GET", path, &of(Some(ORG), Role::TenantAdmin), None).await.ok(200);
    ask(&app, "GET", path, &of(None, Role::PlatformAdmin), None).await.ok(200);
    app.stop().await;
}

#[tokio::test]
async fn with_the_deliverer_away_the_client_is_told_when_to_come_again() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    world.deliverer.set_answer(503, json!({}));
    let away = ask(&app, "GET", "/api/callbacks/orgs/acme/deliveries/1/", &world.admin_token(), None).await;
    assert!(away.headers.contains_key("retry-after"));
    assert_eq!(away.ok(503)["code"], "deliverer_unavailable");
    app.stop().await;
}

#[tokio::test]
async fn an_agent_shows_how_its_callbacks_fare_and_a_list_asks_nobody() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = app.agent(&app.mentor().await, json!({})).await;
    assert_eq!((&agent["callback_state"], &agent["failing_since"]), (&json!("ok"), &Value::Null));
    let failing = json!({
        "periodic_agent": agent["id"], "callback_state": "disabled", "failing_since": "2026-11-16T00:00:00Z",
    });
    world.deliverer.set_not_well(json!([failing]));
    app.advance(5).await;
    let page = app.eventually("periodic-agents/", |page| page["results"][0]["callback_state"] == "disabled").await;
    assert_eq!(page["results"][0]["failing_since"], "2026-11-16T00:00:00Z");

    // Enabling it shows at once, without waiting for the next look.
    world.deliverer.set_not_well(json!([]));
    let enable = format!("/api/callbacks/orgs/acme/endpoints/{}/enable/", agent["id"]);
    ask(&app, "POST", &enable, &world.admin_token(), None).await.ok(200);
    app.eventually("periodic-agents/", |page| page["results"][0]["callback_state"] == "ok").await;
    app.stop().await;
}

/// The actions in the audit log about the callbacks of an agent, oldest first.
async fn told_of_callbacks(app: &App<'_>, agent: &Value) -> Vec<Value> {
    let path = format!("/api/core/orgs/{ORG}/audit-log/?subject=agent:{}", agent["id"]);
    let page = ask(app, "GET", &path, &app.world.admin_token(), None).await.ok(200);
    let changes = page["results"].as_array().unwrap().iter().rev();
    changes.filter(|change| change["action"].as_str().unwrap().contains("callbacks_")).cloned().collect()
}

#[tokio::test]
async fn each_warning_of_callbacks_and_the_end_of_them_is_told_to_the_audit_log_once() {
    let world = World::new().await;
    let mut app = world.open().await;
    let mentor = app.mentor().await;
    let (agent, other) = (app.agent(&mentor, json!({})).await, app.agent(&mentor, json!({})).await);
    let (first, second) = ("2026-11-16T00:00:00Z", "2026-11-20T00:00:00Z");
    let mut expected = Vec::new();
    for (step, (since, percent, action)) in [
        (first, 0, None),
        (first, 50, Some("agent.callbacks_failing_50_percent")),
        (first, 70, Some("agent.callbacks_failing_70_percent")),
        // What another replica saw a while ago.
        (first, 50, None),
        (first, 90, Some("agent.callbacks_failing_90_percent")),
        (first, 100, Some("agent.callbacks_disabled")),
        (second, 50, Some("agent.callbacks_failing_50_percent")),
        (first, 100, None),
        (second, 50, None),
    ]
    .into_iter()
    .enumerate()
    {
        // The other one only tells that this step has been seen.
        let seen = format!("2026-11-21T00:00:0{step}Z");
        let state = if percent == 100 { "disabled" } else { "failing" };
        world.deliverer.set_not_well(json!([
            { "periodic_agent": agent["id"], "callback_state": state, "failing_since": since, "warned_percent": percent },
            { "periodic_agent": other["id"], "callback_state": "failing", "failing_since": seen, "warned_percent": 0 },
        ]));
        if step % 3 == 2 {
            // Who begins anew remembers nothing but what is in the database, like another replica.
            app.stop().await;
            app = world.open().await;
        }
        app.advance(5).await;
        app.eventually(&format!("periodic-agents/{}/", other["id"]), |other| other["failing_since"] == *seen).await;
        expected.extend(action);
        let told = told_of_callbacks(&app, &agent).await;
        let actions: Vec<&str> = told.iter().map(|change| change["action"].as_str().unwrap()).collect();
        assert_eq!(actions, expected, "{since} {percent}");
    }
    let disabled = told_of_callbacks(&app, &agent).await.remove(3);
    assert_eq!((&disabled["credential"], &disabled["username"]), (&json!("carillon"), &json!("")));
    assert_eq!(disabled["fields"], json!(["callback_state"]));
    app.stop().await;
}

#[tokio::test]
async fn whoever_has_the_link_reads_the_whole_log_and_nobody_else_does() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = app.agent(&app.mentor().await, json!({})).await;
    let mut run = pending_run(41, ORG, agent["id"].as_i64().unwrap(), start());
    let log = "asked, and answered é".repeat(20_000);
    run.state = RunState::Success;
    run.ended_at = Some(start() + TimeDelta::seconds(1));
    run.result = Some(RunResult { log: log.clone(), ..RunResult::default() });
    world.record(vec![run]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 1).await;

    let signature = signed_link::sign(&world.keys, ORG, 41);
    let link =
        |org: &str, id: i64, signature: &str| format!("/api/callbacks/orgs/{org}/logs/{id}/?signature={signature}");
    let whole = app.send("GET", &link(ORG, 41, &signature), &[], Vec::new()).await;
    assert_eq!((whole.status.as_u16(), whole.text == log), (200, true));
    for wrong in [link(ORG, 42, &signature), link("other", 41, &signature), link(ORG, 41, ""), link(ORG, 41, "AAAA")] {
        app.send("GET", &wrong, &[], Vec::new()).await.ok(404);
    }
    app.stop().await;
}
