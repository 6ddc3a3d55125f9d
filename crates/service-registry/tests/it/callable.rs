//! Which services a run may call.

use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{App, World, service_with};

const ENDPOINT: &str = "https://services.example.com/call";

/// The names of what a run of this user may call.
async fn callable(app: &App<'_>, username: &str, organisation: &str, groups: &[&str]) -> Vec<String> {
    let token = app.world.session_token(username, organisation, "service-registry");
    let services = app.callable(&token, groups).await.unwrap().services;
    services.into_iter().map(|service| service.name).collect()
}

/// A group with one service of the same name.
async fn group_with_service(app: &App<'_>, name: &str, is_private: bool) -> String {
    let group = app.group(name, is_private).await;
    app.connect(&app.register(json!({ "name": name, "endpoint": ENDPOINT })).await, &group).await;
    group
}

/// | service of ann, of acme, in a group that is | ann's run | ben's, of acme | another organisation's |
/// |---|---|---|---|
/// | private | may call | - | - |
/// | public | may call | may call | - |
/// | public and published | may call | may call | may call |
/// | private and published | may call | - | - |
#[tokio::test]
async fn nobodys_service_is_reachable_from_another_organisations_run_unless_it_is_published() {
    let mut world = World::new();
    let app = world.open().await;
    let mut groups = Vec::new();
    for (name, is_private) in [("private", true), ("public", false), ("published", false), ("hidden", true)] {
        groups.push(group_with_service(&app, name, is_private).await);
    }
    app.stop().await;
    world.config.published_groups = vec![groups[2].parse().unwrap(), groups[3].parse().unwrap()];
    let app = world.open().await;
    let all: Vec<&str> = groups.iter().map(String::as_str).collect();
    for (username, organisation, seen) in [
        ("ann", "acme", &["hidden", "private", "public", "published"][..]),
        ("ben", "acme", &["public", "published"]),
        ("eve", "other", &["published"]),
        // Called like the owner, but of another organisation; or of one that is called like the owner.
        ("ann", "other", &["published"]),
        ("ann", "ann", &["published"]),
        ("acme", "sub:ann", &["published"]),
    ] {
        assert_eq!(callable(&app, username, organisation, &all).await, seen, "{username} of {organisation}");
    }
}

#[tokio::test]
async fn a_service_of_a_user_without_an_organisation_is_no_organisations() {
    let world = World::new();
    let app = world.open().await;
    let token = world.token("acme", None, Role::None);
    let service = service_with(json!({ "name": "own", "endpoint": ENDPOINT }));
    let service = app.call_as(&token, "POST", "/services", Some(&service)).await.ok(200);
    let group = json!({ "name": "own", "isPrivate": false });
    let group = app.call_as(&token, "POST", "/service-groups", Some(&group)).await.ok(200);
    let pair = json!({ "service": service["uuid"], "serviceGroup": group["uuid"] });
    app.call_as(&token, "POST", "/services/service-sg", Some(&pair)).await.ok(200);
    let group = group["uuid"].as_str().unwrap();
    for (username, organisation) in [("acme", "acme"), ("ann", "acme"), ("acme", "sub:acme")] {
        assert_eq!(callable(&app, username, organisation, &[group]).await, [""; 0], "{username} of {organisation}");
    }
}

#[tokio::test]
async fn only_tasks_with_an_endpoint_in_the_groups_that_are_named_are_callable_each_once() {
    let world = World::new();
    let app = world.open().await;
    let (named, other) = (app.group("named", true).await, app.group("other", true).await);
    let twice = app.register(json!({ "name": "twice", "endpoint": ENDPOINT })).await;
    let elsewhere = app.register(json!({ "name": "elsewhere", "endpoint": ENDPOINT })).await;
    let without = app.register(json!({ "name": "without" })).await;
    let subtask = app.register(json!({ "name": "subtask", "taskType": "subtask", "endpoint": ENDPOINT })).await;
    for (service, group) in
        [(&twice, &named), (&twice, &other), (&elsewhere, &other), (&without, &named), (&subtask, &named)]
    {
        app.connect(service, group).await;
    }
    let unknown = "5e7a6a0b-1c11-4a53-8f2c-111111111111";
    assert_eq!(callable(&app, "ann", "acme", &[&named, unknown]).await, ["twice"]);
    assert_eq!(callable(&app, "ann", "acme", &[&named, &other]).await, ["elsewhere", "twice"]);
    assert_eq!(callable(&app, "ann", "acme", &[]).await, [""; 0]);

    let token = world.session_token("ann", "acme", "service-registry");
    let found = app.callable(&token, &[&named]).await.unwrap().services.remove(0);
    assert_eq!((found.id.to_string(), found.endpoint.as_str()), (twice, ENDPOINT));
    let field = &found.fields[0];
    assert_eq!((field.name.as_str(), field.required, field.field_type.as_str()), ("symbol", true, "string"));
}

#[tokio::test]
async fn a_run_is_offered_so_much_text_and_descriptions_that_providers_take() {
    let world = World::new();
    let app = world.open().await;
    let group = app.group("G", true).await;
    // Some 60 KiB each: of these a run is told of four.
    let field = |number: usize| {
        let name = format!("{number}{}", "n".repeat(240));
        json!({ "name": name, "required": true, "field_type": "t".repeat(240), "description": "d".repeat(100) })
    };
    let fields: Vec<Value> = (0..100).map(field).collect();
    for name in ["a", "b", "c", "d", "e"] {
        app.connect(&app.register(json!({ "name": name, "endpoint": ENDPOINT, "fields": fields })).await, &group).await;
    }
    let described = json!({ "name": "x", "required": true, "field_type": "string", "description": "ä".repeat(2_000) });
    let small = json!({ "name": "f", "endpoint": ENDPOINT, "description": "ö".repeat(2_000), "fields": [described] });
    app.connect(&app.register(small).await, &group).await;
    assert_eq!(callable(&app, "ann", "acme", &[&group]).await, ["a", "b", "c", "d", "f"]);

    let token = world.session_token("ann", "acme", "service-registry");
    let last = app.callable(&token, &[&group]).await.unwrap().services.remove(4);
    assert_eq!((last.description, last.fields[0].description.clone()), ("ö".repeat(1_024), "ä".repeat(1_024)));
    // What was stored before fields had a bound, is not offered and takes no other with it.
    let long = json!({ "name": "n", "required": true, "field_type": "t".repeat(300_000), "description": "" });
    world.execute(&format!("UPDATE services SET fields = '[{long}]' WHERE name = 'a'"));
    assert_eq!(callable(&app, "ann", "acme", &[&group]).await, ["b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn the_internal_door_needs_the_token_of_a_microservice_and_that_of_a_run() {
    let world = World::new();
    let app = world.open().await;
    let group = group_with_service(&app, "s", true).await;
    for (token, status) in [
        (world.session_token("ann", "acme", "https://services.example.com"), 401),
        (world.ann(), 401),
        (String::new(), 401),
        (world.session_token("ann", "acme", "service-registry"), 200),
    ] {
        let answered = app.callable(&token, &[&group]).await.map_or_else(|status| status, |_| 200);
        assert_eq!(answered, status);
    }
    // A run's own token does not open the internal door, nor the public one.
    let token = world.session_token("ann", "acme", "service-registry");
    let url = format!("{}/internal/services", app.internal_base);
    assert_eq!(app.http.post(url).bearer_auth(&token).send().await.unwrap().status(), 401);
    app.call_as(&token, "GET", "/services", None).await.ok(401);
}
