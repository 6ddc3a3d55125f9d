//! Who may do what.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{Answer, App, ORG, USER, World, path, path_in};

async fn list(app: &App<'_>, path: &str, authorization: &str) -> Answer {
    app.send("GET", path, &[("authorization", authorization)], Vec::new()).await
}

#[tokio::test]
async fn whoever_is_not_known_is_turned_away_and_told_how_to_come_back() {
    let world = World::new().await;
    let app = world.open().await;
    let place = path("periodic-agents/");
    let answer = app.send("GET", &place, &[], Vec::new()).await;
    assert_eq!(answer.headers["www-authenticate"], "Token");
    assert_eq!(
        answer.ok(401),
        json!({ "detail": "Authentication credentials were not provided.", "code": "not_authenticated" })
    );
    for (authorization, detail) in [
        ("Basic abc", "Authentication credentials were not provided."),
        ("Bearer", "Invalid token header. No credentials provided."),
        ("Bearer not-a-token", "Invalid token."),
        ("Api-Token 0123456789abcdef0123456789abcdef", "Invalid token."),
        ("0123456789abcdef0123456789abcdef", "Invalid token."),
    ] {
        let answer = list(&app, &place, authorization).await;
        assert!(answer.headers.contains_key("www-authenticate"));
        let unknown = detail.starts_with("Authentication");
        let code = if unknown { "not_authenticated" } else { "authentication_failed" };
        assert_eq!(answer.ok(401), json!({ "detail": detail, "code": code }), "{authorization}");
    }
    let token = world.admin_token();
    for scheme in ["Bearer", "bearer", "Token", "JWT", "Api-Token"] {
        list(&app, &place, &format!("{scheme} {token}")).await.ok(200);
    }
    list(&app, &place, &token).await.ok(200);
}

#[tokio::test]
async fn a_token_that_is_forged_expired_or_meant_for_others_is_not_believed() {
    let world = World::new().await;
    let app = world.open().await;
    let now = world.clock.now().timestamp();
    let claims = json!({
        "sub": USER, "org": ORG, "roles": ["tenant_admin"], "iss": "tests", "aud": "carillon", "exp": now + 60, "iat": now,
    });
    let with = |key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        claims
    };
    let signed = |claims: &Value, secret: &str| {
        jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let secret = world.auth.jwt_secret.expose();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims));

    let place = path("periodic-agents/");
    list(&app, &place, &format!("Bearer {}", signed(&claims, secret))).await.ok(200);
    for (why, token) in [
        ("alg none", unsigned),
        ("another key", signed(&claims, "another-secret-of-at-least-32-bytes-0123456789")),
        ("the internal key", signed(&claims, world.internal.key.expose())),
        ("another audience", signed(&with("aud", json!("others")), secret)),
        ("another issuer", signed(&with("iss", json!("others")), secret)),
        ("expired", signed(&with("exp", json!(now - 60)), secret)),
        ("never expiring", signed(&with("exp", Value::Null), secret)),
    ] {
        let answer = list(&app, &place, &format!("Bearer {token}")).await;
        assert_eq!(
            (why, answer.ok(401)),
            (why, json!({ "detail": "Invalid token.", "code": "authentication_failed" }))
        );
    }
    let session = signed(&with("act", json!({ "sub": "carillon" })), secret);
    list(&app, &place, &format!("Bearer {session}")).await.ok(403);
}

#[tokio::test]
async fn rights_follow_the_table() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let tenant = |user: &str, org: &str| world.token(user, Some(org), Role::TenantAdmin);
    for (why, token, place, status) in [
        ("an administrator at home", tenant(USER, ORG), path("periodic-agents/"), 200),
        ("another's name", tenant("bob", ORG), path("periodic-agents/"), 403),
        ("another organisation", tenant(USER, "other"), path("periodic-agents/"), 403),
        ("no role", world.token(USER, Some(ORG), Role::None), path("periodic-agents/"), 403),
        ("no organisation", world.token(USER, None, Role::TenantAdmin), path("periodic-agents/"), 403),
        ("the platform, as anyone", world.token("root", None, Role::PlatformAdmin), path("periodic-agents/"), 200),
        ("the platform, elsewhere", world.token("root", None, Role::PlatformAdmin), path_in("x", "y", ""), 200),
        ("an encoded name", tenant(USER, ORG), path_in(ORG, "admin%40acme.example", "periodic-agents/"), 200),
    ] {
        let answer = list(&app, &place, &format!("Bearer {token}")).await;
        assert_eq!((why, answer.status.as_u16()), (why, status), "{}", answer.text);
        if status == 403 {
            assert_eq!(
                answer.body,
                json!({ "detail": "You do not have permission to perform this action.", "code": "permission_denied" })
            );
        }
    }
}

#[tokio::test]
async fn what_is_of_another_organisation_is_not_there() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let authorization = format!("Bearer {}", world.token("eve", Some("other"), Role::TenantAdmin));
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let call = async |method: &str, rest: &str, body: Value| {
        app.send(method, &path_in("other", "eve", rest), &headers, body.to_string().into_bytes()).await
    };
    let own = call("POST", "", json!({ "name": "Eve's", "provider": { "kind": "echo" } })).await.ok(201);

    let place = format!("periodic-agents/{}/", agent["id"]);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        call(method, &place, json!({})).await.ok(404);
    }
    call("POST", &format!("{place}run/"), json!({})).await.ok(404);
    call("GET", &format!("{place}ticks/"), json!({})).await.ok(404);
    call("GET", &format!("mentors/{}/", mentor["unique_id"].as_str().unwrap()), json!({})).await.ok(404);
    for reference in [&mentor["unique_id"], &mentor["id"]] {
        let body = json!({ "mentor": reference, "title": "T", "task": { "crontab": {} } });
        let errors = call("POST", "periodic-agents/", body).await.ok(400);
        assert!(errors["mentor"][0].as_str().unwrap().contains("does not exist"), "{errors}");
    }
    let body = json!({ "mentor": own["id"], "title": "T", "task": { "crontab": {} }, "previous_agent": agent["id"] });
    call("POST", "periodic-agents/", body).await.ok(400);
    assert_eq!(call("GET", "periodic-agents/", json!({})).await.ok(200)["count"], 0);
    assert_eq!(app.get(&place).await.ok(200)["title"], "Daily");
}

#[tokio::test]
async fn a_platform_administrator_acts_as_others_and_is_remembered_as_the_editor() {
    let world = World::new().await;
    let app = world.open().await;
    let authorization = format!("Bearer {}", world.token("root", None, Role::PlatformAdmin));
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let mentor = json!({ "name": "Ada", "provider": { "kind": "echo" } }).to_string().into_bytes();
    let nowhere = app.send("POST", &path_in("nowhere", "alice", ""), &headers, mentor.clone()).await;
    assert_eq!(nowhere.ok(404), json!({ "detail": "No Organisation matches the given query.", "code": "not_found" }));

    let own = app.mentor().await;
    let body = json!({ "mentor": own["id"], "title": "T", "task": { "crontab": {} } }).to_string().into_bytes();
    let place = path_in(ORG, "alice", "periodic-agents/");
    assert_eq!(app.send("POST", &place, &headers, body).await.ok(201)["username"], "alice");
    let mut queue = world.consume(bus::Queue::CronDispatcherDocuments).await;
    let agent = crate::harness::document_where(&mut queue, |document| document.kind().as_str() == "agent").await;
    let model::document::Subject::Agent(agent) = agent.subject else { panic!("no agent") };
    assert_eq!((agent.username.as_str(), agent.last_editor.as_str()), ("alice", "root"));
}
