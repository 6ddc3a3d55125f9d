//! API keys: made, shown once, used in every form, expired, revoked.

use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{ORG, USER, World, path, path_in};

const PLACE: &str = "/api/core/platform/api-tokens/";

#[tokio::test]
async fn a_key_is_shown_once_and_works_in_every_form_that_clients_send() {
    let world = World::new().await;
    let app = world.open().await;
    let admin = format!("Bearer {}", world.admin_token());
    let body = json!({ "name": "ci-1", "platform_key": ORG, "expires_in": "30 00:00:00" });
    let made = app.call_as(&admin, "POST", PLACE, Some(body)).await.ok(201);
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let shown = json!({
        "username": USER, "name": "ci-1", "key": key, "expires": "2026-12-21T12:00:00Z",
        "created": "2026-11-21T12:00:00Z", "read_only": false,
    });
    assert_eq!(made, shown);

    let list = app.call_as(&admin, "GET", &format!("{PLACE}?platform_key={ORG}"), None).await.ok(200);
    let mut listed = shown.clone();
    listed["key"] = json!("");
    assert_eq!(list, json!([listed]));
    for form in ["Api-Token {}", "API-KEY {}", "Token {}", "Bearer {}", "{}"] {
        let authorization = form.replace("{}", &key);
        app.call_as(&authorization, "GET", &path("periodic-agents/"), None).await.ok(200);
    }
    let mentor = json!({ "name": "Ada", "provider": { "kind": "echo" } });
    let mentor = app.call_as(&format!("Api-Token {key}"), "POST", &path(""), Some(mentor)).await.ok(201);
    assert_eq!(mentor["created_by"], USER);
}

#[tokio::test]
async fn the_database_does_not_know_a_key() {
    let world = World::new().await;
    let app = world.open().await;
    let key = app.api_key(&world.admin_token(), ORG, "k", json!({})).await.replace("Api-Token ", "");
    assert_eq!(world.rows("api_keys"), 1);
    let (spelled, bytes) =
        (key.clone().into_bytes(), (0..32).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap()));
    let bytes: Vec<u8> = bytes.collect();
    for column in ["key_hash", "name", "username", "organisation"] {
        for stored in world.column("api_keys", column) {
            assert!(stored != spelled && stored != bytes, "{column}");
        }
    }
    assert_eq!(world.column("api_keys", "key_hash")[0].len(), 32);
}

#[tokio::test]
async fn what_is_wrong_with_a_new_key_is_said_and_a_name_is_taken_once() {
    let world = World::new().await;
    let app = world.open().await;
    let admin = format!("Bearer {}", world.admin_token());
    let create = async |body: Value| app.call_as(&admin, "POST", PLACE, Some(body)).await;
    let required = json!(["This field is required."]);
    assert_eq!(create(json!({ "platform_key": ORG })).await.ok(400), json!({ "name": required }));
    let slug = "Enter a valid \"slug\" consisting of letters, numbers, underscores or hyphens.";
    assert_eq!(create(json!({ "platform_key": ORG, "name": "a b" })).await.ok(400), json!({ "name": [slug] }));
    for bad in [json!("soon"), json!(-5), json!([]), json!("0"), json!("99999 00:00:00"), json!("P1W")] {
        let errors = create(json!({ "platform_key": ORG, "name": "n", "expires_in": bad })).await.ok(400);
        assert!(errors["expires_in"][0].is_string(), "{errors}");
    }
    assert_eq!(world.rows("api_keys"), 0);
    create(json!({ "platform_key": ORG, "name": "n", "expires_in": null })).await.ok(201);
    let taken = json!({ "non_field_errors": ["The fields platform_key, name must make a unique set."] });
    assert_eq!(create(json!({ "platform_key": ORG, "name": "n" })).await.ok(400), taken);
    let other = format!("Bearer {}", world.token("eve", Some("other"), Role::TenantAdmin));
    let same_name = json!({ "platform_key": "other", "name": "n" });
    app.call_as(&other, "POST", PLACE, Some(same_name)).await.ok(201);
    app.call_as(&other, "POST", PLACE, Some(json!({ "platform_key": ORG, "name": "m" }))).await.ok(403);
}

#[tokio::test]
async fn a_key_ends_when_it_expires_and_when_it_is_revoked_also_at_another_replica() {
    let world = World::new().await;
    let (app, replica) = (world.open().await, world.open().await);
    let place = path("periodic-agents/");
    let key = app.api_key(&world.admin_token(), ORG, "k", json!({ "expires_in": "01:00:00" })).await;
    let short = app.api_key(&world.admin_token(), ORG, "short", json!({ "expires_in": 60 })).await;
    for authorization in [&key, &short] {
        for replica in [&app, &replica] {
            replica.call_as(authorization, "GET", &place, None).await.ok(200);
        }
    }
    app.advance(59).await;
    app.call_as(&short, "GET", &place, None).await.ok(200);
    app.advance(1).await;
    app.call_as(&short, "GET", &place, None).await.ok(401);
    replica.call_as(&key, "GET", &place, None).await.ok(200);

    let admin = format!("Bearer {}", world.admin_token());
    // Without its final slash, as clients send it.
    let one = format!("{PLACE}k?platform_key={ORG}");
    assert_eq!(app.call_as(&admin, "DELETE", &one, None).await.status, 204);
    app.call_as(&key, "GET", &place, None).await.ok(401);
    app.advance(3).await;
    assert_eq!(replica.call_as(&key, "GET", &place, None).await.ok(401)["detail"], "Invalid token.");
    app.call_as(&admin, "DELETE", &one, None).await.ok(404);
}

#[tokio::test]
async fn a_key_of_another_organisation_or_user_is_not_believed_there() {
    let world = World::new().await;
    let app = world.open().await;
    let key = app.api_key(&world.admin_token(), ORG, "k", json!({})).await;
    for place in [path_in("other", USER, "periodic-agents/"), path_in(ORG, "ben", "periodic-agents/")] {
        let answer = app.call_as(&key, "GET", &place, None).await;
        assert_eq!(answer.ok(401), json!({ "detail": "Invalid token.", "code": "authentication_failed" }));
    }
}

#[tokio::test]
async fn a_read_only_key_reads_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let key = app.api_key(&world.admin_token(), ORG, "reader", json!({ "read_only": true })).await;
    let place = path(&format!("periodic-agents/{}/", agent["id"]));
    app.call_as(&key, "GET", &place, None).await.ok(200);
    app.call_as(&key, "PATCH", &place, Some(json!({ "title": "Changed" }))).await.ok(403);
    app.call_as(&key, "DELETE", &place, None).await.ok(403);
    app.call_as(&key, "POST", PLACE, Some(json!({ "name": "more", "platform_key": ORG }))).await.ok(403);
    assert_eq!(app.call_as(&key, "GET", &place, None).await.ok(200)["title"], "Daily");
}

#[tokio::test]
async fn a_key_that_expires_makes_only_keys_that_expire_no_later() {
    let world = World::new().await;
    let app = world.open().await;
    let parent = app.api_key(&world.admin_token(), ORG, "parent", json!({ "expires_in": "01:00:00" })).await;
    app.advance(60).await;
    let create = async |name: &str, more: Value| {
        let mut body = json!({ "name": name, "platform_key": ORG });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.call_as(&parent, "POST", PLACE, Some(body)).await
    };
    let end = "2026-11-21T13:00:00Z";
    for (name, more, expires) in [
        ("absent", json!({}), end),
        ("null", json!({ "expires_in": null }), end),
        ("the-same", json!({ "expires_in": "00:59:00" }), end),
        ("less", json!({ "expires_in": 60 }), "2026-11-21T12:02:00Z"),
    ] {
        assert_eq!(create(name, more).await.ok(201)["expires"], expires, "{name}");
    }
    let fault = format!("Ensure this key expires no later than the key that makes it: {end}.");
    assert_eq!(create("more", json!({ "expires_in": "00:59:01" })).await.ok(400), json!({ "expires_in": [fault] }));
    // Nor does what it made.
    let child = create("child", json!({})).await.ok(201)["key"].as_str().unwrap().to_owned();
    let body = json!({ "name": "grandchild", "platform_key": ORG });
    let grandchild = app.call_as(&format!("Api-Token {child}"), "POST", PLACE, Some(body)).await.ok(201);
    assert_eq!(grandchild["expires"], end);
    // A token or a key that does not expire makes what it likes.
    let lasting = app.api_key(&world.admin_token(), ORG, "lasting", json!({})).await;
    let body = json!({ "name": "too", "platform_key": ORG });
    assert_eq!(app.call_as(&lasting, "POST", PLACE, Some(body)).await.ok(201)["expires"], Value::Null);
}

#[tokio::test]
async fn a_key_is_of_the_credentials_own_organisation_unless_another_is_named() {
    let world = World::new().await;
    let app = world.open().await;
    let admin = format!("Bearer {}", world.admin_token());
    app.call_as(&admin, "POST", PLACE, Some(json!({ "name": "own" }))).await.ok(201);
    let list = app.call_as(&admin, "GET", PLACE, None).await.ok(200);
    assert_eq!(list[0]["name"], "own");
    let root = format!("Bearer {}", world.token("root", None, Role::PlatformAdmin));
    let required = json!({ "platform_key": ["This field is required."] });
    assert_eq!(app.call_as(&root, "POST", PLACE, Some(json!({ "name": "n" }))).await.ok(400), required);
    let blank = json!({ "platform_key": ["This field may not be blank."] });
    let body = json!({ "name": "n", "platform_key": "" });
    assert_eq!(app.call_as(&admin, "POST", PLACE, Some(body)).await.ok(400), blank);
}
