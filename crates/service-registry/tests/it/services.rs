//! Services: what is registered is what is shown, for as long as it is there.

use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{AGENT, MODEL, OTHER_AGENT, PROTOCOL, World, names, service, service_with};

#[tokio::test]
async fn a_service_is_shown_as_it_was_registered_and_survives_a_restart() {
    let world = World::new();
    let app = world.open().await;
    let made = app.post("/services", service()).await.ok(200);
    for (name, value) in service().as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let path = format!("/services/{}", made["uuid"].as_str().unwrap());
    assert_eq!(app.get(&path).await.ok(200), made);
    app.stop().await;
    let app = world.open().await;
    assert_eq!(app.get(&path).await.ok(200), made);
}

#[tokio::test]
async fn digests_are_taken_without_their_prefix_and_model_names_without_a_protocol() {
    let world = World::new();
    let app = world.open().await;
    let bare = json!({ "protocolDigest": &PROTOCOL[6..], "modelDigest": &MODEL[6..], "modelName": "StockPrice" });
    let made = app.post("/services", service_with(bare)).await.ok(200);
    assert_eq!((&made["protocolDigest"], &made["modelDigest"]), (&json!(PROTOCOL), &json!(MODEL)));
    assert_eq!(made["modelName"], "StockPrice");
}

#[tokio::test]
async fn a_body_is_json_whatever_its_content_type_says() {
    let world = World::new();
    let app = world.open().await;
    let authorization = format!("bearer {}", world.ann());
    for content_type in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""] {
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
        app.send("POST", "/services", &headers, service().to_string().into()).await.ok(200);
    }
    let headers = [("authorization", authorization.as_str())];
    app.send("POST", "/services", &headers, service().to_string().into()).await.ok(200);
}

#[tokio::test]
async fn whatever_is_within_bounds_is_taken() {
    let world = World::new();
    let app = world.open().await;
    let field = |name: String| json!({ "name": name, "required": false, "field_type": "array", "description": "", "other": { "a": 1 } });
    let largest = json!({
        "name": "ü".repeat(255),
        "description": "漢".repeat(10_000),
        "modelName": "m".repeat(255),
        "fields": (0..100).map(|index| field(format!("{index:0255}"))).collect::<Vec<_>>(),
        "taskType": "subtask",
        "category": "c",
        "location": "l",
        "endpoint": "https://services.example.com/stock?x=y",
        "surprise": [1, 2],
    });
    let made = app.post("/services", service_with(largest.clone())).await.ok(200);
    for name in ["name", "description", "modelName", "taskType", "category", "location", "endpoint"] {
        assert_eq!(made[name], largest[name], "{name}");
    }
    assert_eq!(made["fields"].as_array().unwrap().len(), 100);
    assert_eq!(made["fields"][7].as_object().unwrap().len(), 4, "only the four known keys are kept");
    assert_eq!(made.get("surprise"), None);
    let none = app.post("/services", service_with(json!({ "fields": [], "endpoint": null }))).await.ok(200);
    assert_eq!((&none["fields"], &none["endpoint"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn an_update_replaces_what_it_says_and_nothing_that_the_registry_decides() {
    let world = World::new();
    let app = world.open().await;
    let made = app
        .post("/services", service_with(json!({ "category": "finance", "endpoint": "https://services.example.com/" })))
        .await
        .ok(200);
    world.advance(90);

    // As a client of the original writes it: it knows no endpoint, and sends back what it was shown.
    let mut changed = made.clone();
    changed.as_object_mut().unwrap().remove("endpoint");
    changed.as_object_mut().unwrap().remove("category");
    changed["name"] = json!("Prices");
    changed["agent"] = json!(OTHER_AGENT);
    changed["taskType"] = json!("subtask");
    changed["created_at"] = json!("1999-01-01T00:00:00+02:00");
    changed["updated_at"] = json!("yesterday");
    changed["num_conversions"] = json!(1_000_000);
    changed["conversion_rate"] = json!("1");
    changed["uptime"] = json!(1);
    for path in ["/services", "/services/"] {
        let updated = app.put(path, changed.clone()).await.ok(200);
        let mut expected = made.clone();
        expected["name"] = json!("Prices");
        expected["agent"] = json!(OTHER_AGENT);
        expected["taskType"] = json!("subtask");
        expected["updated_at"] = json!("2023-10-22T21:30:16");
        assert_eq!(updated, expected);
        assert_eq!(app.get(&format!("/services/{}", made["uuid"].as_str().unwrap())).await.ok(200), expected);
    }

    changed["endpoint"] = Value::Null;
    changed["category"] = Value::Null;
    let updated = app.put("/services", changed).await.ok(200);
    assert_eq!((&updated["endpoint"], &updated["category"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_deleted_service_is_gone_from_everywhere() {
    let world = World::new();
    let app = world.open().await;
    let (id, group) = (app.register(json!({})).await, app.group("G", true).await);
    app.connect(&id, &group).await;
    let path = format!("/services/{id}");
    assert_eq!(app.delete(&path).await.ok(200), json!({}));
    for (method, path) in [("GET", path.clone()), ("DELETE", path), ("GET", format!("/services/{id}/groups"))] {
        let answer = app.call_as(&world.ann(), method, &path, None).await;
        assert_eq!(answer.ok(404), json!({ "detail": "Service not found", "code": "not_found" }));
    }
    let mut body = service();
    body["uuid"] = json!(id);
    app.put("/services", body).await.ok(404);
    app.delete(&format!("/services/service-sg/{id}/{group}")).await.ok(404);
    assert_eq!(app.get("/services").await.ok(200), json!([]));
    let in_group = app.get(&format!("/service-groups/{group}/services/")).await.ok(200);
    assert_eq!(in_group["services"], json!([]));
}

#[tokio::test]
async fn endpoints_on_private_networks_are_refused_naming_the_setting() {
    let world = World::new();
    let app = world.open().await;
    for endpoint in [
        "http://127.0.0.1:8080/",
        "http://10.1.2.3/",
        "http://[::1]/",
        "http://2130706433/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "https://printer.local/",
    ] {
        let answer = app.post("/services", service_with(json!({ "endpoint": endpoint }))).await;
        assert!(answer.text.contains("callbacks.allow_networks"), "{endpoint}: {}", answer.text);
        assert_eq!(answer.faults(), [("body.endpoint".into(), "value_error".into())], "{endpoint}");
    }
}

#[tokio::test]
async fn one_user_may_have_a_thousand_services_and_groups_and_sees_them_all() {
    let world = World::new();
    let app = world.open().await;
    let first = app.register(json!({})).await;
    let group = app.group("G", true).await;
    let (columns, group_columns) = (
        "organisation, username, agent, name, description, category, location, protocol_digest, model_digest, \
         model_name, fields, task_type, endpoint, search_text, created_at, updated_at",
        "organisation, username, name, is_private, created_at, updated_at",
    );
    let copies = (1..1_000).map(|number| {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        format!(
            "INSERT INTO services (id, {columns}) SELECT '{id}', {columns} FROM services WHERE id = '{first}';
             INSERT INTO service_groups (id, {group_columns})
             SELECT '{id}', {group_columns} FROM service_groups WHERE id = '{group}';"
        )
    });
    world.execute(&format!("BEGIN; {} COMMIT;", copies.collect::<String>()));
    assert_eq!(app.get("/services").await.ok(200).as_array().unwrap().len(), 1_000);
    assert_eq!(app.get("/service-groups").await.ok(200).as_array().unwrap().len(), 1_000);
    for refused in [
        app.post("/services", service()).await.ok(409),
        app.post("/service-groups", json!({ "name": "H", "isPrivate": true })).await.ok(409),
    ] {
        assert!(refused["detail"].as_str().unwrap().contains("1000"), "{refused}");
    }
    // Others have as many.
    let ben = world.token("ben", Some("acme"), Role::None);
    app.call_as(&ben, "POST", "/services", Some(&service())).await.ok(200);
    app.delete(&format!("/services/{first}")).await.ok(200);
    app.delete(&format!("/service-groups/{group}")).await.ok(200);
    // The last place is taken once, whoever comes at the same time.
    for (path, body) in [("/services", service()), ("/service-groups", json!({ "name": "H", "isPrivate": true }))] {
        let post = || app.post(path, body.clone());
        let (a, b, c, d) = tokio::join!(post(), post(), post(), post());
        let mut answered = [a, b, c, d].map(|answer| answer.status.as_u16());
        answered.sort_unstable();
        assert_eq!(answered, [200, 409, 409, 409], "{path}");
    }
}

#[tokio::test]
async fn two_services_may_be_alike_and_the_newest_is_listed_first() {
    let world = World::new();
    let app = world.open().await;
    for name in ["one", "two", "two", "three"] {
        app.register(json!({ "name": name })).await;
        world.advance(1);
    }
    let list = app.get("/services/").await.ok(200);
    assert_eq!(names(&list), ["three", "two", "two", "one"]);
    assert_eq!(list[0].as_object().unwrap().len(), 6);
    assert_eq!(list[0]["agent"], AGENT);
}
