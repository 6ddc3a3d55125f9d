//! The requests of the original's own document (3.59), as they stand there.

use serde_json::{Value, json};

use crate::harness::{App, World, path};

/// The body of its `PUT` and of its `PATCH`: both are the same.
const BODY: &str = r#"{
"mentor": 0,
"title": "string",
"description": "string",
"prompt": "string",
"task": {
"crontab": {
"minute": "string",
"hour": "string",
"day_of_week": "string",
"day_of_month": "string",
"month_of_year": "string"
},
"one_off": true,
"start_time": "2019-08-24T14:15:22Z",
"enabled": true
},
"pathway": "string",
"callback_url": "http://example.com",
"callback_secret": "string",
"parent_session_id": "string",
"parent_mentor_id": -9223372036854776000,
"previous_agent": 0,
"previous_agent_status": "success"
}"#;

async fn send(app: &App<'_>, method: &str, place: &str, body: &str) -> (u16, Value) {
    // A bare key, as in its samples; ours is a token.
    let authorization = app.world.admin_token();
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let answer = app.send(method, &path(place), &headers, body.as_bytes().to_vec()).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn its_sample_values_are_refused_each_by_name() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    let before = app.get(&place).await.ok(200);
    for method in ["PUT", "PATCH"] {
        let (status, errors) = send(&app, method, &place, BODY).await;
        assert_eq!(status, 400);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&errors), ["mentor", "parent_mentor_id", "previous_agent", "task"], "{errors}");
        let fields = ["day_of_month", "day_of_week", "hour", "minute", "month_of_year"];
        assert_eq!(keys(&errors["task"]["crontab"]), fields);
        assert_eq!(errors["mentor"], json!(["Invalid pk \"0\" - object does not exist."]));
        assert_eq!(errors["previous_agent"], json!(["Invalid pk \"0\" - object does not exist."]));
    }
    assert_eq!(app.get(&place).await.ok(200), before);
}

#[tokio::test]
async fn with_real_values_they_are_accepted() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let previous = app.agent(&mentor, json!({})).await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    let mut body: Value = serde_json::from_str(BODY).unwrap();
    body["mentor"] = mentor["id"].clone();
    body["previous_agent"] = previous["id"].clone();
    body["parent_mentor_id"] = json!(i64::MIN);
    for field in ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"] {
        body["task"]["crontab"][field] = json!("1");
    }
    for method in ["PUT", "PATCH"] {
        let (status, agent) = send(&app, method, &place, &body.to_string()).await;
        assert_eq!(status, 200, "{agent}");
        // An integer in, an integer out; what was written is repeated, the secret too.
        for (key, value) in body.as_object().unwrap().iter().filter(|(key, _)| *key != "task") {
            assert_eq!(&agent[key], value, "{key}");
        }
        let task = &agent["task"];
        assert_eq!(
            (&task["one_off"], &task["enabled"], &task["start_time"]),
            (&json!(true), &json!(true), &json!("2019-08-24T14:15:22Z"))
        );
    }
    let (status, _) = send(&app, "DELETE", &place, "").await;
    assert_eq!(status, 204);
}
