//! Who is let in, and what is whose.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{World, service};

/// Every endpoint, with ids of things that are ann's.
fn operations(service_id: &str, group: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let mut update = service();
    update["uuid"] = json!(service_id);
    let pair = json!({ "service": service_id, "serviceGroup": group });
    let group_body = json!({ "name": "Stolen", "isPrivate": false });
    vec![
        ("GET", format!("/services/{service_id}"), None),
        ("PUT", "/services".to_owned(), Some(update)),
        ("GET", format!("/services/{service_id}/groups"), None),
        ("GET", format!("/function/{service_id}/groups"), None),
        ("POST", "/services/service-sg/".to_owned(), Some(pair)),
        ("GET", format!("/service-groups/{group}/"), None),
        ("PUT", format!("/service-groups/{group}/"), Some(group_body)),
        ("GET", format!("/service-groups/{group}/services/"), None),
        ("GET", format!("/function-groups/{group}/functions/"), None),
        ("DELETE", format!("/services/service-sg/{service_id}/{group}"), None),
        ("DELETE", format!("/services/{service_id}"), None),
        ("DELETE", format!("/service-groups/{group}/"), None),
    ]
}

fn lists() -> Vec<(&'static str, String, Option<Value>)> {
    let list = |path: &str| ("GET", path.to_owned(), None);
    ["/services", "/functions/", "/service-groups/", "/function-groups/", "/service-groups/public/"].map(list).into()
}

/// | caller | what is ann's, of acme |
/// |---|---|
/// | ann of acme, in any role | everything |
/// | ben of acme, ann of other, ann and acme of no organisation, any administrator | is not there, and stays as it is |
#[tokio::test]
async fn what_is_a_users_own_is_not_there_for_anyone_else() {
    let world = World::new();
    let app = world.open().await;
    let (service_id, group) = (app.register(json!({})).await, app.group("G", true).await);
    app.connect(&service_id, &group).await;
    let shown = app.get(&format!("/services/{service_id}")).await.ok(200);
    let unknown = "5e7a6a0b-1c11-4a53-8f2c-111111111111";

    for (username, organisation, role) in [
        ("ben", Some("acme"), Role::TenantAdmin),
        ("ben", Some("acme"), Role::PlatformAdmin),
        ("ann", Some("other"), Role::TenantAdmin),
        ("ann", None, Role::None),
        ("ann", None, Role::PlatformAdmin),
        ("acme", None, Role::None),
        ("org:acme", None, Role::None),
        ("ann", Some("org:acme"), Role::None),
        ("ANN", Some("acme"), Role::None),
        ("an%", Some("acme"), Role::None),
    ] {
        let token = world.token(username, organisation, role);
        for ((method, path, body), (_, unknown_path, unknown_body)) in
            operations(&service_id, &group).into_iter().zip(operations(unknown, unknown))
        {
            let foreign = app.call_as(&token, method, &path, body.as_ref()).await;
            let nowhere = app.call_as(&token, method, &unknown_path, unknown_body.as_ref()).await;
            assert_eq!(foreign.status.as_u16(), 404, "{username} of {organisation:?}: {method} {path}");
            assert_eq!(foreign.text, nowhere.text, "{method} {path}");
        }
        for (method, path, _) in lists() {
            assert_eq!(app.call_as(&token, method, &path, None).await.ok(200), json!([]), "{username} {path}");
        }
    }
    assert_eq!(app.get(&format!("/services/{service_id}")).await.ok(200), shown);

    for role in [Role::None, Role::TenantAdmin, Role::PlatformAdmin] {
        let token = world.token("ann", Some("acme"), role);
        let found = app.call_as(&token, "GET", &format!("/services/{service_id}"), None).await;
        assert_eq!(found.ok(200), shown);
    }
    // Each operation is good in its owner's hands, so that the 404s above mean what they seem to.
    for (method, path, body) in operations(&service_id, &group) {
        let answer = app.call_as(&world.ann(), method, &path, body.as_ref()).await;
        assert_eq!(answer.status.as_u16(), 200, "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn one_can_neither_put_a_foreign_service_into_a_group_nor_use_a_foreign_group() {
    let world = World::new();
    let app = world.open().await;
    let (service_id, group) = (app.register(json!({})).await, app.group("G", false).await);
    let ben = world.token("ben", Some("acme"), Role::TenantAdmin);
    let own_service = app.call_as(&ben, "POST", "/services", Some(&service())).await.ok(200);
    let own_group = json!({ "name": "Mine", "isPrivate": true });
    let own_group = app.call_as(&ben, "POST", "/service-groups", Some(&own_group)).await.ok(200);
    for (service, group, missing) in [
        (json!(service_id), own_group["uuid"].clone(), "Service not found"),
        (own_service["uuid"].clone(), json!(group), "Service group not found"),
    ] {
        let pair = json!({ "service": service, "serviceGroup": group });
        let answer = app.call_as(&ben, "POST", "/services/service-sg", Some(&pair)).await;
        assert_eq!(answer.ok(404), json!({ "detail": missing, "code": "not_found" }));
    }
}

#[tokio::test]
async fn whoever_is_not_known_is_turned_away_by_every_endpoint() {
    let world = World::new();
    let app = world.open().await;
    let (service_id, group) = (app.register(json!({})).await, app.group("G", true).await);
    let create = [
        ("POST", "/services".to_owned(), Some(service())),
        ("POST", "/service-groups".to_owned(), Some(json!({ "name": "G", "isPrivate": true }))),
    ];
    for (method, path, body) in operations(&service_id, &group).into_iter().chain(lists()).chain(create) {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        for authorization in [None, Some("Basic abc"), Some("Bearer"), Some("Bearer 0af3"), Some("Bearer eyJ.e30.x")] {
            let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
            let answer = app.send(method, &path, &headers, body.clone()).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            let detail = answer.ok(401);
            assert!(detail["detail"].is_string() && detail["code"].is_string(), "{detail}");
        }
    }
}

#[tokio::test]
async fn any_scheme_and_spelling_carries_a_token() {
    let world = World::new();
    let app = world.open().await;
    for scheme in ["bearer ", "Bearer ", "BEARER  ", "Token ", "JWT ", ""] {
        let authorization = format!("{scheme}{}", world.ann());
        app.send("GET", "/services", &[("authorization", authorization.as_str())], Vec::new()).await.ok(200);
    }
}

#[tokio::test]
async fn an_expired_token_and_the_session_token_of_a_run_are_refused() {
    let world = World::new();
    let app = world.open().await;
    let now = world.clock.now().timestamp();
    let key = EncodingKey::from_secret(world.auth.jwt_secret.expose().as_bytes());
    let sign = |claims: Value| jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    for (claims, status) in [
        (json!({ "sub": "ann", "org": "acme", "exp": now + 60 }), 200),
        (json!({ "sub": "ann", "org": "acme", "exp": now - 3600 }), 401),
        (json!({ "org": "acme", "exp": now + 60 }), 401),
        (json!({ "sub": "ann", "org": "acme", "exp": now + 60, "act": { "sub": "carillon" } }), 403),
    ] {
        let answer = app.call_as(&sign(claims.clone()), "GET", "/services", None).await;
        assert_eq!(answer.status.as_u16(), status, "{claims}");
    }
}
