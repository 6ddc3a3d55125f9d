//! Bad requests: the right status and body, and nothing stored.

use std::time::Duration;

use crate::harness::{App, BODY_BYTES_MAX, PATIENCE, World, path};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many agents there are, so that tests can say that nothing was stored.
async fn agents(app: &App<'_>) -> Value {
    app.get("periodic-agents/").await.ok(200)["count"].clone()
}

#[tokio::test]
async fn every_bad_field_is_named_at_once_and_nothing_is_stored() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let body = json!({
        "mentor": "11111111-1111-1111-1111-111111111111",
        "title": "x".repeat(256),
        "description": {},
        "prompt": "a\0b",
        "task": {
            "crontab": { "minute": "61", "hour": "22 - 2", "day_of_month": "", "day_of_week": "L", "month_of_year": null },
            "one_off": "maybe", "start_time": "tomorrow", "enabled": [],
        },
        "callback_url": "ftp://example.com/x",
        "parent_mentor_id": 1e300,
        "previous_agent": 999,
        "previous_agent_status": "",
    });
    let errors = app.post("periodic-agents/", body).await.ok(400);
    assert_eq!(errors["mentor"], json!(["Object with unique_id=11111111-1111-1111-1111-111111111111 does not exist."]));
    assert_eq!(errors["title"], json!(["Ensure this field has no more than 255 characters."]));
    assert_eq!(errors["description"], json!(["Not a valid string."]));
    assert_eq!(errors["prompt"], json!(["Null characters are not allowed."]));
    let crontab = &errors["task"]["crontab"];
    assert_eq!(crontab["minute"][0], "'61', not in 0-59 for Minutes");
    assert_eq!(crontab["day_of_month"], json!(["This field may not be blank."]));
    assert_eq!(crontab["month_of_year"], json!(["This field may not be null."]));
    assert!(crontab["hour"].is_array() && crontab["day_of_week"].is_array(), "{crontab}");
    assert_eq!(errors["task"]["one_off"], json!(["Must be a valid boolean."]));
    assert!(errors["task"]["start_time"][0].as_str().unwrap().starts_with("Datetime has wrong format."));
    assert_eq!(errors["task"]["enabled"], json!(["Must be a valid boolean."]));
    assert_eq!(errors["callback_url"], json!(["Enter a valid URL."]));
    assert_eq!(errors["parent_mentor_id"], json!(["Ensure this value is less than or equal to 9223372036854775807."]));
    assert_eq!(errors["previous_agent"], json!(["Invalid pk \"999\" - object does not exist."]));
    assert_eq!(errors["previous_agent_status"], json!(["\"\" is not a valid choice."]));
    assert_eq!(agents(&app).await, 0);
}

#[tokio::test]
async fn the_documents_own_sample_of_a_parent_mentor_underflows() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let authorization = format!("Bearer {}", world.admin_token());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = br#"{"mentor": 1, "title": "T", "task": {"crontab": {}}, "parent_mentor_id": -9223372036854776000}"#;
    let answer = app.send("POST", &path("periodic-agents/"), &headers, body.to_vec()).await;
    let message = "Ensure this value is greater than or equal to -9223372036854775808.";
    assert_eq!(answer.ok(400), json!({ "parent_mentor_id": [message] }));
}

#[tokio::test]
async fn a_date_that_never_comes_is_a_fault_of_the_crontab_as_a_whole() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let task = json!({ "crontab": { "day_of_month": "31", "month_of_year": "feb" } });
    let body = json!({ "mentor": mentor["unique_id"], "title": "T", "task": task });
    let errors = app.post("periodic-agents/", body).await.ok(400);
    assert!(errors["task"]["crontab"]["non_field_errors"][0].is_string(), "{errors}");
    assert_eq!(agents(&app).await, 0);
}

#[tokio::test]
async fn a_private_address_is_refused_for_callbacks_and_the_setting_is_named() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = |url: &str| json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} }, "callback_url": url });
    for url in ["http://169.254.169.254/latest", "http://10.0.0.8:8080/", "http://[::1]/x"] {
        let errors = app.post("periodic-agents/", agent(url)).await.ok(400);
        let message = errors["callback_url"][0].as_str().unwrap();
        assert!(message.contains("callbacks.allow_networks"), "{message}");
    }
    for url in [
        "http://127.0.0.1:9/allowed-here",
        "http://callback-sink:8080/x",
        "http://localhost/x",
        "https://user@example.com:99999/",
    ] {
        app.post("periodic-agents/", agent(url)).await.ok(201);
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let authorization = format!("Token {}", world.admin_token());
    for (content_type, body, status, expected) in [
        (
            "application/json",
            "{\"title\": ",
            400,
            json!({ "detail": "JSON parse error - Expecting value: line 1 column 11 (char 10)", "code": "parse_error" }),
        ),
        (
            "application/json; charset=utf-8",
            "{'a': 1}",
            400,
            json!({ "detail": "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", "code": "parse_error" }),
        ),
        (
            "application/json",
            "[]",
            400,
            json!({ "non_field_errors": ["Invalid data. Expected a dictionary, but got list."] }),
        ),
        ("application/json", "null", 400, json!({ "non_field_errors": ["No data provided"] })),
        (
            "application/scim+json",
            "\"x\"",
            400,
            json!({ "non_field_errors": ["Invalid data. Expected a dictionary, but got str."] }),
        ),
        (
            "text/plain",
            "x",
            415,
            json!({ "detail": "Unsupported media type \"text/plain\" in request.", "code": "unsupported_media_type" }),
        ),
        (
            "application/xml; charset=utf-8",
            "<x/>",
            415,
            json!({ "detail": "Unsupported media type \"application/xml; charset=utf-8\" in request.", "code": "unsupported_media_type" }),
        ),
    ] {
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
        let answer = app.send("POST", &path("periodic-agents/"), &headers, body.into()).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.ok(status), expected, "{body}");
    }
    let empty = app.send("POST", &path("periodic-agents/"), &[("authorization", &authorization)], Vec::new()).await;
    assert_eq!(empty.ok(400)["title"], json!(["This field is required."]), "an empty body counts as an empty object");
    assert_eq!(agents(&app).await, 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let prompt = "x".repeat(BODY_BYTES_MAX);
    let body = json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} }, "prompt": prompt });
    assert_eq!(
        app.post("periodic-agents/", body).await.ok(413),
        json!({ "detail": "Request body is too large.", "code": "body_too_large" })
    );
    assert_eq!(agents(&app).await, 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        path(""),
        world.admin_token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();

    let mut answer = String::new();
    let answered = tokio::time::timeout(PATIENCE, async {
        let mut reading = std::pin::pin!(stream.read_to_string(&mut answer));
        while tokio::time::timeout(Duration::from_millis(5), &mut reading).await.is_err() {
            app.advance(1).await;
        }
    });
    assert!(answered.await.is_ok(), "the body is waited for still");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with(r#"{"code":"request_timeout","detail":"Request body took too long."}"#), "{answer}");
}

#[tokio::test]
async fn a_text_too_long_for_a_message_of_the_bus_is_refused_and_counted_in_characters() {
    let world = World::new().await;
    let app = world.open().await;
    let (prompt, description) = ("é".repeat(131_072), "é".repeat(65_536));
    let longer = |text: &str| format!("{text}é");
    let no_more_than = |max: usize| json!([format!("Ensure this field has no more than {max} characters.")]);

    let mentor = |system_prompt: &str, description: &str| {
        let provider = json!({ "kind": "echo" });
        json!({ "name": "Ada", "provider": provider, "system_prompt": system_prompt, "description": description })
    };
    let errors = app.post("", mentor(&longer(&prompt), &longer(&description))).await.ok(400);
    assert_eq!(errors, json!({ "system_prompt": no_more_than(131_072), "description": no_more_than(65_536) }));
    let mentor = app.post("", mentor(&prompt, &description)).await.ok(201);

    let agent = app.agent(&mentor, json!({ "prompt": prompt, "description": description })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    let body = json!({ "prompt": longer(&prompt), "description": longer(&description) });
    let errors = app.patch(&place, body).await.ok(400);
    assert_eq!(errors, json!({ "prompt": no_more_than(131_072), "description": no_more_than(65_536) }));
    let errors = app.post(&format!("{place}run/"), json!({ "prompt": longer(&prompt) })).await.ok(400);
    assert_eq!(errors, json!({ "prompt": no_more_than(131_072) }));
}

#[tokio::test]
async fn a_client_that_takes_no_json_is_refused() {
    let world = World::new().await;
    let app = world.open().await;
    let answer = app.send("GET", &path("periodic-agents/"), &[("accept", "text/html")], Vec::new()).await;
    assert_eq!(
        answer.ok(406),
        json!({ "detail": "Could not satisfy the request Accept header.", "code": "not_acceptable" })
    );
}

#[tokio::test]
async fn a_bad_change_leaves_everything_as_it_was() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "callback_secret": "s" })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    let before = app.get(&place).await.ok(200);
    let task = json!({ "crontab": { "minute": "1-0-2" } });
    for body in [json!({ "title": "new", "task": task }), json!({ "title": "new", "mentor": 77 })] {
        app.patch(&place, body.clone()).await.ok(400);
        app.put(&place, body).await.ok(400);
    }
    assert_eq!(app.put(&place, json!({})).await.ok(400)["task"], json!(["This field is required."]));
    assert_eq!(app.get(&place).await.ok(200), before);
}

#[tokio::test]
async fn ids_that_are_unknown_or_no_integers_are_not_there() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let no_such =
        |object: &str| json!({ "detail": format!("No {object} matches the given query."), "code": "not_found" });
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = (method != "GET").then(|| json!({}));
        assert_eq!(app.call(method, "periodic-agents/999/", body.clone()).await.ok(404), no_such("PeriodicAgent"));
        assert_eq!(
            app.call(method, "periodic-agents/x/", body).await.ok(404),
            json!({ "detail": "Not found.", "code": "not_found" })
        );
    }
    assert_eq!(app.get("periodic-agent-logs/999/").await.ok(404), no_such("PeriodicAgentLog"));
    assert_eq!(app.get("mentors/nobody/").await.ok(404), no_such("Mentor"));
    assert_eq!(app.post("periodic-agents/999/run/", json!({})).await.ok(404), no_such("PeriodicAgent"));
    assert_eq!(app.get("periodic-agents/999/ticks/").await.ok(404), no_such("PeriodicAgent"));
}
