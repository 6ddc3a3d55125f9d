//! What is wrong with a request is told by its place, all of it at once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{AGENT, App, MODEL, PATIENCE, PROTOCOL, World, service, service_with};

const REQUIRED: [&str; 8] =
    ["agent", "name", "description", "protocolDigest", "modelDigest", "modelName", "fields", "taskType"];

fn fault(place: &str, kind: &str) -> Vec<(String, String)> {
    vec![(place.to_owned(), kind.to_owned())]
}

#[tokio::test]
async fn every_required_field_is_required_of_a_create_and_of_an_update() {
    let world = World::new();
    let app = world.open().await;
    let missing = |names: &[&str]| -> Vec<(String, String)> {
        names.iter().map(|name| (format!("body.{name}"), "missing".to_owned())).collect()
    };
    assert_eq!(app.post("/services", json!({})).await.faults(), missing(&REQUIRED));
    assert_eq!(app.put("/services", json!({})).await.faults(), missing(&[&["uuid"], &REQUIRED[..]].concat()));
    for name in REQUIRED {
        let mut body = service();
        body.as_object_mut().unwrap().remove(name);
        assert_eq!(app.post("/services", body).await.faults(), missing(&[name]));
    }
}

/// Fields that take so many bytes as JSON.
fn fields_of(bytes: usize) -> Value {
    let field = |name: usize, length: usize| {
        let (name, description) = (name.to_string(), "d".repeat(length));
        json!({ "name": name, "required": true, "field_type": "string", "description": description })
    };
    let mut fields: Vec<Value> = (1..7).map(|name| field(name, 10_000)).chain([field(7, 0)]).collect();
    let left = bytes - json!(fields).to_string().len();
    fields[6] = field(7, left);
    json!(fields)
}

#[tokio::test]
async fn fields_may_take_64_kib_together() {
    let world = World::new();
    let app = world.open().await;
    app.register(json!({ "fields": fields_of(64 * 1024) })).await;
    let refused = app.post("/services", service_with(json!({ "fields": fields_of(64 * 1024 + 1) }))).await.ok(422);
    let expected = json!([{
        "loc": ["body", "fields"],
        "msg": "List should take at most 65536 bytes as JSON, not 65537",
        "type": "value_error",
    }]);
    assert_eq!(refused["detail"], expected);
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let world = World::new();
    let app = world.open().await;
    let id = app.register(json!({})).await;
    let other_checksum = format!("{}q", &AGENT[..AGENT.len() - 1]);
    let digits = &PROTOCOL[6..];
    for (name, value, kind) in [
        ("agent", json!(null), "string_type"),
        ("agent", json!(7), "string_type"),
        ("agent", json!(""), "value_error"),
        ("agent", json!("agent1qxyz"), "value_error"),
        ("agent", json!(other_checksum), "value_error"),
        ("agent", json!(AGENT.to_uppercase()), "value_error"),
        ("agent", json!(AGENT.replace("agent1", "proxy1")), "value_error"),
        ("agent", json!(format!("{AGENT}\n")), "value_error"),
        ("agent", json!("a".repeat(1_000_000)), "string_too_long"),
        ("name", json!(""), "string_too_short"),
        ("name", json!(" \t "), "value_error"),
        ("name", json!("n".repeat(256)), "string_too_long"),
        ("name", json!("a\u{0}b"), "value_error"),
        ("name", json!(["n"]), "string_type"),
        ("description", json!(""), "string_too_short"),
        ("description", json!("d".repeat(10_001)), "string_too_long"),
        ("description", json!(true), "string_type"),
        ("protocolDigest", json!(""), "string_pattern_mismatch"),
        ("protocolDigest", json!(MODEL), "string_pattern_mismatch"),
        ("protocolDigest", json!(digits.to_uppercase()), "string_pattern_mismatch"),
        ("protocolDigest", json!(&digits[1..]), "string_pattern_mismatch"),
        ("protocolDigest", json!(1), "string_type"),
        ("modelDigest", json!(PROTOCOL), "string_pattern_mismatch"),
        ("modelDigest", json!(format!("{MODEL}0")), "string_pattern_mismatch"),
        ("modelDigest", json!("model:"), "string_pattern_mismatch"),
        ("modelName", json!(""), "string_too_short"),
        ("modelName", json!("m".repeat(256)), "string_too_long"),
        ("fields", json!(null), "list_type"),
        ("fields", json!({}), "list_type"),
        ("fields", json!("symbol"), "list_type"),
        ("fields", json!(vec![json!({}); 101]), "too_long"),
        ("fields", fields_of(64 * 1024 + 1), "value_error"),
        ("taskType", json!("TASK"), "enum"),
        ("taskType", json!("PRIMARY"), "enum"),
        ("taskType", json!(null), "enum"),
        ("category", json!(7), "string_type"),
        ("category", json!("c".repeat(256)), "string_too_long"),
        ("location", json!({ "lat": 1 }), "string_type"),
        ("location", json!("l\u{0}"), "value_error"),
        ("endpoint", json!(7), "string_type"),
        ("endpoint", json!(""), "url_parsing"),
        ("endpoint", json!("services.example.com/x"), "url_parsing"),
        ("endpoint", json!("https://services.example.com/a b"), "url_parsing"),
        ("endpoint", json!(" https://services.example.com/"), "url_parsing"),
        ("endpoint", json!("ftp://services.example.com/"), "value_error"),
        ("endpoint", json!("javascript:alert(1)"), "value_error"),
        ("endpoint", json!("https://ann:secret@services.example.com/"), "value_error"),
        ("endpoint", json!(format!("https://services.example.com/{}", "x".repeat(2_000))), "string_too_long"),
    ] {
        let mut body = service();
        body[name] = value.clone();
        let expected = fault(&format!("body.{name}"), kind);
        assert_eq!(app.post("/services", body.clone()).await.faults(), expected, "{name}: {value}");
        body["uuid"] = json!(id);
        assert_eq!(app.put("/services", body).await.faults(), expected, "{name}: {value}");
    }
    // Nothing was made or changed.
    assert_eq!(app.get("/services").await.ok(200).as_array().unwrap().len(), 1);
    assert_eq!(app.get(&format!("/services/{id}")).await.ok(200)["name"], service()["name"]);
}

#[tokio::test]
async fn a_bad_part_of_a_field_is_named_with_its_index() {
    let world = World::new();
    let app = world.open().await;
    let good = json!({ "name": "symbol", "required": true, "field_type": "string", "description": "d" });
    let with = |name: &str, value: Value| {
        let mut item = good.clone();
        item["name"] = json!("other");
        item[name] = value;
        service_with(json!({ "fields": [good, item] }))
    };
    for (name, value, kind) in [
        ("name", json!(""), "string_too_short"),
        ("name", json!("n".repeat(256)), "string_too_long"),
        ("name", json!(null), "string_type"),
        ("name", json!("symbol"), "value_error"),
        ("required", json!("true"), "bool_type"),
        ("required", json!(1), "bool_type"),
        ("field_type", json!(""), "string_too_short"),
        ("field_type", json!("\u{0}"), "value_error"),
        ("description", json!(7), "string_type"),
        ("description", json!("d".repeat(10_001)), "string_too_long"),
    ] {
        let faults = app.post("/services", with(name, value.clone())).await.faults();
        assert_eq!(faults, fault(&format!("body.fields.1.{name}"), kind), "{name}: {value}");
    }
    let missing = app.post("/services", service_with(json!({ "fields": [{}] }))).await.faults();
    let expected = ["name", "required", "field_type", "description"];
    assert_eq!(missing, expected.map(|name| (format!("body.fields.0.{name}"), "missing".to_owned())));
    let nothing = app.post("/services", service_with(json!({ "fields": [null] }))).await.faults();
    assert_eq!(nothing, fault("body.fields.0", "dict_type"));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let world = World::new();
    let app = world.open().await;
    let body = service_with(json!({ "agent": "a", "modelDigest": "b", "taskType": "c", "fields": [{ "name": "" }] }));
    let places: Vec<String> = app.post("/services", body).await.faults().into_iter().map(|(place, _)| place).collect();
    let expected = [
        "body.agent",
        "body.modelDigest",
        "body.fields.0.name",
        "body.fields.0.required",
        "body.fields.0.field_type",
        "body.fields.0.description",
        "body.taskType",
    ];
    assert_eq!(places, expected);
}

async fn send_raw(app: &App<'_>, method: &str, path: &str, body: &[u8]) -> crate::harness::Answer {
    let authorization = format!("Bearer {}", app.world.ann());
    app.send(method, path, &[("authorization", authorization.as_str())], body.to_vec()).await
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused_by_every_endpoint_that_takes_one() {
    let world = World::new();
    let app = world.open().await;
    let group = format!("/service-groups/{}", app.group("G", true).await);
    let deep = "[".repeat(100_000);
    for (method, path) in [
        ("POST", "/services"),
        ("PUT", "/services"),
        ("POST", "/services/service-sg/"),
        ("POST", "/service-groups/"),
        ("POST", "/function-groups/"),
        ("PUT", group.as_str()),
    ] {
        for (body, kind) in [
            (&b""[..], "missing"),
            (b"{", "json_invalid"),
            (b"name=x&isPrivate=true", "json_invalid"),
            (b"{\"name\": \"\xff\"}", "json_invalid"),
            (b"{\"name\": \"\\ud800\"}", "json_invalid"),
            (b"{} x", "json_invalid"),
            (deep.as_bytes(), "json_invalid"),
            (b"[]", "dict_type"),
            (b"null", "dict_type"),
            (b"\"text\"", "dict_type"),
        ] {
            let faults = send_raw(&app, method, path, body).await.faults();
            assert_eq!(faults, fault("body", kind), "{method} {path} {}", String::from_utf8_lossy(body).len());
        }
    }
}

#[tokio::test]
async fn a_body_beyond_bounds_is_refused() {
    let world = World::new();
    let app = world.open().await;
    let large = service_with(json!({ "description": "d".repeat(3 * 1024 * 1024) })).to_string();
    let answer = send_raw(&app, "POST", "/services", large.as_bytes()).await;
    assert_eq!(answer.ok(413), json!({ "detail": "Request body is too large.", "code": "body_too_large" }));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::new();
    let app = world.open().await;
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!(
        "POST /v1beta1/services HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        world.ann()
    );
    stream.write_all(request.as_bytes()).await.unwrap();

    let mut answer = String::new();
    let answered = tokio::time::timeout(PATIENCE, async {
        let mut reading = std::pin::pin!(stream.read_to_string(&mut answer));
        while tokio::time::timeout(Duration::from_millis(5), &mut reading).await.is_err() {
            world.advance(1);
        }
    });
    assert!(answered.await.is_ok(), "the body is waited for still");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with(r#"{"code":"request_timeout","detail":"Request body took too long."}"#), "{answer}");
}

#[tokio::test]
async fn a_bad_group_is_named() {
    let world = World::new();
    let app = world.open().await;
    let path = format!("/service-groups/{}/", app.group("G", true).await);
    for (body, place, kind) in [
        (json!({ "isPrivate": true }), "body.name", "missing"),
        (json!({ "name": "G" }), "body.isPrivate", "missing"),
        (json!({ "name": "", "isPrivate": true }), "body.name", "string_too_short"),
        (json!({ "name": "  ", "isPrivate": true }), "body.name", "value_error"),
        (json!({ "name": "g".repeat(256), "isPrivate": true }), "body.name", "string_too_long"),
        (json!({ "name": 7, "isPrivate": true }), "body.name", "string_type"),
        (json!({ "name": "G", "isPrivate": "no" }), "body.isPrivate", "bool_type"),
        (json!({ "name": "G", "isPrivate": null }), "body.isPrivate", "bool_type"),
    ] {
        assert_eq!(app.post("/service-groups/", body.clone()).await.faults(), fault(place, kind), "{body}");
        assert_eq!(app.put(&path, body.clone()).await.faults(), fault(place, kind), "{body}");
    }
}

#[tokio::test]
async fn a_bad_id_is_named_wherever_it_stands() {
    let world = World::new();
    let app = world.open().await;
    let good = app.register(json!({})).await;
    for bad in ["7", "service_id", "zz", &good[1..], "%00", "%E2%82%AC"] {
        for (method, path, place) in [
            ("GET", format!("/services/{bad}"), "path.service_id"),
            ("DELETE", format!("/services/{bad}/"), "path.service_id"),
            ("GET", format!("/services/{bad}/groups"), "path.service_id"),
            ("DELETE", format!("/services/service-sg/{bad}/{good}"), "path.service_id"),
            ("DELETE", format!("/services/service-sg/{good}/{bad}"), "path.group_id"),
            ("GET", format!("/service-groups/{bad}"), "path.group_id"),
            ("DELETE", format!("/service-groups/{bad}"), "path.group_id"),
            ("GET", format!("/service-groups/{bad}/services"), "path.group_id"),
            ("GET", format!("/function-groups/{bad}/functions/"), "path.group_id"),
        ] {
            let answer = app.call_as(&world.ann(), method, &path, None).await;
            assert_eq!(answer.faults(), fault(place, "uuid_parsing"), "{method} {path}");
        }
    }
    for (body, place, kind) in [
        (json!({ "service": good }), "body.serviceGroup", "missing"),
        (json!({ "serviceGroup": good }), "body.service", "missing"),
        (json!({ "service": "zz", "serviceGroup": good }), "body.service", "uuid_parsing"),
        (json!({ "service": good, "serviceGroup": 7 }), "body.serviceGroup", "uuid_parsing"),
    ] {
        assert_eq!(app.post("/services/service-sg", body).await.faults(), fault(place, kind));
    }
    let answer = app.put("/services", service_with(json!({ "uuid": "zz" }))).await;
    assert_eq!(answer.faults(), fault("body.uuid", "uuid_parsing"));
}

#[tokio::test]
async fn a_bad_query_is_named() {
    let world = World::new();
    let app = world.open().await;
    for (query, place, kind) in [
        ("limit=0", "query.limit", "greater_than_equal"),
        ("limit=-1", "query.limit", "greater_than_equal"),
        ("limit=1001", "query.limit", "less_than_equal"),
        ("limit=ten", "query.limit", "int_parsing"),
        ("limit=99999999999999999999", "query.limit", "int_parsing"),
        ("offset=-1", "query.offset", "greater_than_equal"),
        ("offset=1.5", "query.offset", "int_parsing"),
    ] {
        for path in ["/services", "/functions/", "/service-groups", "/service-groups/public/", "/function-groups/"] {
            assert_eq!(app.get(&format!("{path}?{query}")).await.faults(), fault(place, kind), "{path}?{query}");
        }
    }
    for (query, place, kind) in [
        ("group=zz".to_owned(), "query.group", "uuid_parsing"),
        ("taskType=tasks".to_owned(), "query.taskType", "enum"),
        ("agent=agent1q".to_owned(), "query.agent", "value_error"),
        (format!("search={}", "s".repeat(256)), "query.search", "string_too_long"),
        ("search=%00".to_owned(), "query.search", "value_error"),
    ] {
        assert_eq!(app.get(&format!("/services?{query}")).await.faults(), fault(place, kind), "{query}");
    }
}
