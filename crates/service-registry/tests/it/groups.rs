//! Groups, and what is in them.

use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{App, World, names};

async fn call(app: &App<'_>, token: &str, method: &str, path: &str, body: Option<Value>) -> Value {
    app.call_as(token, method, path, body.as_ref()).await.ok(200)
}

#[tokio::test]
async fn a_group_lives_under_both_names_of_the_api() {
    let world = World::new();
    let app = world.open().await;
    for (path, things, group_key, names_key) in [
        ("/service-groups", "services", "service_group", "services"),
        ("/function-groups", "functions", "function_group", "functions"),
    ] {
        for slash in ["", "/"] {
            let body = json!({ "name": "My Services", "isPrivate": true });
            let made = app.post(&format!("{path}{slash}"), body).await.ok(200);
            let id = made["uuid"].as_str().unwrap();
            assert_eq!(made, json!({ "uuid": id, "name": "My Services", "isPrivate": true }));
            assert_eq!(app.get(&format!("{path}/{id}{slash}")).await.ok(200), made);
            assert_eq!(app.get(&format!("{path}{slash}")).await.ok(200), json!([made]));
            assert_eq!(app.get(&format!("{path}/public{slash}")).await.ok(200), json!([]));

            let change = json!({ "uuid": "ignored", "name": "Ours", "isPrivate": false });
            let changed = app.put(&format!("{path}/{id}{slash}"), change).await.ok(200);
            assert_eq!(changed, json!({ "uuid": id, "name": "Ours", "isPrivate": false }));
            assert_eq!(app.get(&format!("{path}/public{slash}")).await.ok(200), json!([changed]));

            let service = app.register(json!({ "name": "S" })).await;
            app.connect(&service, id).await;
            let inside = app.get(&format!("{path}/{id}/{things}{slash}")).await.ok(200);
            assert_eq!(inside, json!({ group_key: id, names_key: ["S"] }));

            assert_eq!(app.delete(&format!("{path}/{id}{slash}")).await.ok(200), json!({}));
            for answer in [
                app.get(&format!("{path}/{id}{slash}")).await,
                app.delete(&format!("{path}/{id}{slash}")).await,
                app.get(&format!("{path}/{id}/{things}{slash}")).await,
                app.put(&format!("{path}/{id}"), json!({ "name": "N", "isPrivate": true })).await,
            ] {
                assert_eq!(answer.ok(404), json!({ "detail": "Service group not found", "code": "not_found" }));
            }
            // What was in it stays.
            app.delete(&format!("/services/{service}")).await.ok(200);
        }
    }
}

#[tokio::test]
async fn connecting_is_idempotent_and_disconnecting_is_not() {
    let world = World::new();
    let app = world.open().await;
    let (service, group) = (app.register(json!({ "name": "S" })).await, app.group("G", true).await);
    let pair = format!("/services/service-sg/{service}/{group}");
    assert_eq!(app.delete(&pair).await.ok(404), json!({ "detail": "Connection not found", "code": "not_found" }));
    for _ in 0..3 {
        app.connect(&service, &group).await;
    }
    let inside = app.get(&format!("/service-groups/{group}/services")).await.ok(200);
    assert_eq!(inside["services"], json!(["S"]));
    assert_eq!(app.delete(&format!("{pair}/")).await.ok(200), json!({}));
    assert_eq!(app.delete(&pair).await.ok(404), json!({ "detail": "Connection not found", "code": "not_found" }));
    app.connect(&service, &group).await;

    let unknown = "5e7a6a0b-1c11-4a53-8f2c-111111111111";
    let connect = async |service: &str, group: &str| {
        app.post("/services/service-sg", json!({ "service": service, "serviceGroup": group })).await.ok(404)
    };
    assert_eq!(connect(unknown, &group).await, json!({ "detail": "Service not found", "code": "not_found" }));
    assert_eq!(connect(&service, unknown).await, json!({ "detail": "Service group not found", "code": "not_found" }));
}

#[tokio::test]
async fn a_service_may_be_in_several_groups_and_a_group_hold_several_services() {
    let world = World::new();
    let app = world.open().await;
    let services = [app.register(json!({ "name": "B" })).await, app.register(json!({ "name": "A" })).await];
    let groups = [app.group("H", true).await, app.group("G", false).await];
    for service in &services {
        for group in &groups {
            app.connect(service, group).await;
        }
    }
    for group in &groups {
        let inside = app.get(&format!("/function-groups/{group}/functions/")).await.ok(200);
        assert_eq!(inside["functions"], json!(["A", "B"]));
    }
    for path in ["/services", "/function"] {
        let around = app.get(&format!("{path}/{}/groups", services[0])).await.ok(200);
        assert_eq!(names(&around), ["G", "H"]);
    }
}

/// | group of ann, of acme | ann | ben, of acme | eve, of other | eve, of no organisation |
/// |---|---|---|---|---|
/// | private | sees | - | - | - |
/// | public | sees | sees | - | - |
/// | public and published | sees | sees | sees | sees |
/// | private and published | sees | - | - | - |
#[tokio::test]
async fn a_public_group_is_public_within_its_organisation_unless_the_operator_publishes_it() {
    let mut world = World::new();
    let app = world.open().await;
    let mut groups = Vec::new();
    for (name, is_private) in [("private", true), ("public", false), ("published", false), ("hidden", true)] {
        let group = app.group(name, is_private).await;
        app.connect(&app.register(json!({ "name": name })).await, &group).await;
        groups.push((name, group));
    }
    app.stop().await;
    world.config.published_groups = vec![groups[2].1.parse().unwrap(), groups[3].1.parse().unwrap()];
    let app = world.open().await;

    for (username, organisation, seen) in [
        ("ann", Some("acme"), &["private", "public", "published", "hidden"][..]),
        ("ben", Some("acme"), &["public", "published"]),
        ("eve", Some("other"), &["published"]),
        ("eve", None, &["published"]),
        // Called like the organisation, or like its user, but not of it.
        ("acme", None, &["published"]),
        ("ann", None, &["published"]),
        ("ann", Some("other"), &["published"]),
    ] {
        let token = world.token(username, organisation, Role::None);
        for (name, group) in &groups {
            let status = if seen.contains(name) { 200 } else { 404 };
            for path in [format!("/service-groups/{group}"), format!("/function-groups/{group}/functions")] {
                let answer = app.call_as(&token, "GET", &path, None).await;
                assert_eq!(answer.status.as_u16(), status, "{username} of {organisation:?}: {name} {path}");
            }
        }
        let listed = call(&app, &token, "GET", "/service-groups/public", None).await;
        let mut listed = names(&listed);
        listed.sort_unstable();
        let public: Vec<&str> = seen.iter().copied().filter(|name| name.starts_with("pub")).collect();
        assert_eq!(listed, public, "{username} of {organisation:?}");
        // To see is not to own, and a list of services is of one's own.
        if username != "ann" || organisation != Some("acme") {
            assert_eq!(call(&app, &token, "GET", "/service-groups", None).await, json!([]));
            assert_eq!(call(&app, &token, "GET", &format!("/services?group={}", groups[2].1), None).await, json!([]));
        }
    }
}
