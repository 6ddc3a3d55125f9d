//! Bodies that are forms: the results that the original has for them.

use serde_json::{Value, json};

use crate::harness::{Answer, App, World, path};

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

async fn send(app: &App<'_>, method: &str, rest: &str, content_type: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {}", app.world.admin_token());
    let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
    app.send(method, &path(rest), &headers, body.as_bytes().to_vec()).await
}

/// The parts of a multipart body, with the content type that names their boundary.
fn multipart(parts: &[(&str, &str)]) -> (&'static str, String) {
    let part = |(name, value): &(&str, &str)| {
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    ("multipart/form-data; boundary=xyz", parts.iter().map(part).collect::<String>() + "--xyz--\r\n")
}

#[tokio::test]
async fn an_agent_made_by_a_form_is_disabled_unless_the_form_says_otherwise() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let form = format!("mentor={}&title=Daily&task.crontab.minute=*/5&previous_agent=", mentor["unique_id"]);
    let agent = send(&app, "POST", "periodic-agents/", FORM, &form.replace('"', "")).await.ok(201);
    assert_eq!((&agent["enabled"], &agent["one_off"]), (&json!(false), &json!(false)));
    assert_eq!(agent["task"]["crontab"]["minute"], "*/5");
    assert_eq!((&agent["previous_agent"], &agent["task"]["crontab"]["hour"]), (&Value::Null, &json!("*")));
    for word in ["on", "1", "true"] {
        let form = format!(
            "mentor={}&title=Daily&task.crontab.minute=0&task.enabled={word}&task.start_time=2027-01-01T00:00:00Z",
            mentor["id"]
        );
        let agent = send(&app, "POST", "periodic-agents/", FORM, &form).await.ok(201);
        assert_eq!((&agent["enabled"], &agent["mentor"]), (&json!(true), &mentor["id"]));
        assert_eq!(agent["task"]["start_time"], "2027-01-01T00:00:00Z");
    }
}

#[tokio::test]
async fn what_a_form_leaves_out_is_unchanged_on_patch_and_switched_off_on_put() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "description": "kept", "prompt": "old" })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    let changed = send(&app, "PATCH", &place, FORM, "task.crontab.hour=3&prompt=").await.ok(200);
    assert_eq!((&changed["enabled"], &changed["prompt"]), (&json!(true), &json!("")));
    assert_eq!(changed["task"]["crontab"]["hour"], "3");
    assert_eq!(send(&app, "PATCH", &place, FORM, "").await.ok(200)["enabled"], true);
    let form = format!("mentor={}&title=Put&task.crontab.minute=0", mentor["id"]);
    let put = send(&app, "PUT", &place, FORM, &form).await.ok(200);
    assert_eq!((&put["enabled"], &put["description"]), (&json!(false), &json!("kept")));
    let on = send(&app, "PATCH", &place, FORM, "task.enabled=on&callback_on=runs&callback_on=skipped").await.ok(200);
    assert_eq!((&on["enabled"], &on["callback_on"]), (&json!(true), &json!(["runs", "skipped"])));
}

#[tokio::test]
async fn brackets_and_json_inside_a_form_are_not_understood() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let required = json!({ "task": ["This field is required."] });
    for task in ["task[crontab][minute]=5", "task={\"crontab\":{}}"] {
        let form = format!("mentor=1&title=T&{task}");
        assert_eq!(send(&app, "POST", "periodic-agents/", FORM, &form).await.ok(400), required);
    }
    let (content_type, body) = multipart(&[("mentor", "1"), ("title", "T"), ("task", "{\"crontab\":{}}")]);
    assert_eq!(send(&app, "POST", "periodic-agents/", content_type, &body).await.ok(400), required);
    let form = "mentor=&title=&task.enabled=maybe&task.start_time=zz&parent_mentor_id=x";
    let errors = send(&app, "POST", "periodic-agents/", FORM, form).await.ok(400);
    assert_eq!(errors["mentor"], json!(["This field may not be null."]));
    assert_eq!(errors["title"], json!(["This field may not be blank."]));
    assert_eq!(errors["task"]["crontab"], json!(["This field is required."]));
    assert_eq!(errors["task"]["enabled"], json!(["Must be a valid boolean."]));
    assert!(errors["task"]["start_time"].is_array() && errors["parent_mentor_id"].is_array());
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 0);
}

#[tokio::test]
async fn a_mentor_with_settings_may_come_in_parts_as_the_npm_client_sends_it() {
    let world = World::new().await;
    let app = world.open().await;
    let (content_type, body) = multipart(&[
        ("template_name", "ai-mentor"),
        ("new_mentor_name", "helper"),
        ("display_name", "Hélper"),
        ("llm_temperature", "0.5"),
        ("categories", "1"),
        ("categories", "2"),
        ("allow_anonymous", "true"),
        ("metadata", "{\"a\":{\"b\":1}}"),
    ]);
    let mentor = send(&app, "POST", "mentor-with-settings/", content_type, &body).await.ok(200);
    assert_eq!((&mentor["name"], &mentor["display_name"]), (&json!("helper"), &json!("Hélper")));
    assert_eq!((&mentor["llm_temperature"], &mentor["metadata"]), (&json!(0.5), &json!({ "a": { "b": 1 } })));

    let (content_type, body) = multipart(&[("template_name", "ai-mentor"), ("metadata", "zz")]);
    let errors = send(&app, "POST", "mentor-with-settings/", content_type, &body).await.ok(400);
    assert_eq!(errors["new_mentor_name"], json!(["This field is required."]));
    assert_eq!(errors["metadata"], json!(["Value must be a JSON object or null."]));
}

#[tokio::test]
async fn a_broken_form_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let many = "a=b&".repeat(1_001);
    for (content_type, body, detail) in [
        ("multipart/form-data", "--xyz--", "Multipart form parse error - "),
        ("multipart/form-data; boundary=xyz", "--xyz\r\nnonsense", "Multipart form parse error - "),
        (FORM, many.as_str(), "more than 1000 fields"),
    ] {
        let answer = send(&app, "POST", "periodic-agents/", content_type, body).await.ok(400);
        assert!(answer["detail"].as_str().unwrap().contains(detail), "{answer}");
    }
    let answer = send(&app, "POST", "periodic-agents/", "text/plain", "x").await.ok(415);
    assert_eq!(answer["detail"], "Unsupported media type \"text/plain\" in request.");
    let file = "--xyz\r\nContent-Disposition: form-data; name=\"title\"; filename=\"a.txt\"\r\n\r\nA\r\n--xyz--\r\n";
    let errors = send(&app, "POST", "periodic-agents/", "multipart/form-data; boundary=xyz", file).await.ok(400);
    assert_eq!(errors["title"], json!(["Not a valid string."]));
}
