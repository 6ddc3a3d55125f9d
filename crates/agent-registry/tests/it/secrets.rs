//! Secrets: sealed at rest and on the bus, shown to nobody, lost by no round trip.

use bus::Queue;
use model::document::{Document, Endpoint, Subject};
use serde_json::{Value, json};

use crate::harness::{World, document_where};

fn endpoint_secret(document: Document) -> (i64, Vec<u8>) {
    match document.subject {
        Subject::Agent(agent) => (agent.id.0, agent.endpoint.unwrap().sealed_secret),
        other => panic!("no agent: {other:?}"),
    }
}

#[tokio::test]
async fn a_callback_secret_travels_sealed_and_opens_only_for_its_agent() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let fields = json!({ "callback_url": "https://example.com/", "callback_secret": "t0ps3cret" });
    app.agent(&mentor, fields).await;
    let mut queue = world.consume(Queue::CallbackDelivererDocuments).await;
    let document = document_where(&mut queue, |document| document.kind().as_str() == "agent").await;
    let (id, sealed) = endpoint_secret(document);
    assert!(!sealed.windows(9).any(|window| window == b"t0ps3cret"));
    let opened = world.keys.open_text(&sealed, &format!("agent:{id}"), "callback_secret").unwrap();
    assert_eq!(opened.expose(), "t0ps3cret");
    assert!(world.keys.open_text(&sealed, &format!("agent:{}", id + 1), "callback_secret").is_err());
}

#[tokio::test]
async fn reading_editing_and_writing_back_destroys_no_secret_and_null_removes_it() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "callback_secret": "s3cret" })).await;
    let place = format!("periodic-agents/{}/", agent["id"]);

    let mut edited = app.get(&place).await.ok(200);
    edited["mentor"] = edited["mentor"]["unique_id"].clone();
    edited["title"] = json!("Edited");
    let put = app.put(&place, edited).await.ok(200);
    assert_eq!((&put["callback_secret"], &put["callback_secret_set"]), (&json!(""), &json!(true)));

    let put = app.patch(&place, json!({ "callback_secret": "another" })).await.ok(200);
    assert_eq!((&put["callback_secret"], &put["callback_secret_set"]), (&json!("another"), &json!(true)));
    let put = app.patch(&place, json!({ "callback_secret": null })).await.ok(200);
    assert_eq!((&put["callback_secret"], &put["callback_secret_set"]), (&json!(""), &json!(false)));
}

#[tokio::test]
async fn an_api_key_is_written_and_never_shown() {
    let world = World::new().await;
    let app = world.open().await;
    let provider = json!({
        "kind": "openai", "base_url": "https://llm.example.com/v1", "model": "m", "api_key": "sk-t0ps3cret",
        "headers": { "x-team": "a" },
    });
    let answer = app.post("", json!({ "name": "Ada", "provider": provider })).await;
    assert!(!answer.text.contains("t0ps3cret"));
    let mentor = answer.ok(201);
    assert_eq!(
        mentor["provider"],
        json!({
            "name": "", "kind": "openai", "base_url": "https://llm.example.com/v1", "model": "m", "temperature": null,
            "max_output_tokens": null, "headers": { "x-team": "a" }, "api_key_set": true,
        })
    );
    let listed = app.get("").await;
    assert!(!listed.text.contains("t0ps3cret"));

    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let document = document_where(&mut queue, |document| document.kind().as_str() == "mentor").await;
    let Subject::Mentor(announced) = document.subject else { panic!("no mentor") };
    let opened =
        world.keys.open_text(&announced.provider.sealed_api_key, &format!("mentor:{}", mentor["id"]), "api_key");
    assert_eq!(opened.unwrap().expose(), "sk-t0ps3cret");
}

#[tokio::test]
async fn a_rotated_secret_is_shown_once_and_the_one_before_is_good_for_a_while() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let more = json!({ "callback_url": "https://a.example/", "callback_secret": "first" });
    let agent = app.agent(&mentor, more).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    let rotate = async |body: Value| app.post(&format!("{place}rotate-secret/"), body).await;
    let mut queue = world.consume(Queue::CallbackDelivererDocuments).await;
    let mut endpoint_where = async |wanted: &dyn Fn(&Endpoint) -> bool| {
        let found = document_where(
            &mut queue,
            |document| matches!(&document.subject, Subject::Agent(agent) if agent.endpoint.as_ref().is_some_and(wanted)),
        );
        let Subject::Agent(agent) = found.await.subject else { unreachable!("it is an agent") };
        agent.endpoint.unwrap()
    };
    let open = |sealed: &[u8]| {
        let owner = format!("agent:{}", agent["id"]);
        world.keys.open_text(sealed, &owner, "callback_secret").unwrap().expose().clone()
    };

    let answer = rotate(json!({})).await.ok(200);
    let secret = answer["callback_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
    assert_eq!(answer["previous_secret_until"], "2026-11-22T12:00:00Z");
    let endpoint = endpoint_where(&|endpoint| endpoint.previous_secret.is_some()).await;
    let previous = endpoint.previous_secret.unwrap();
    assert_eq!((open(&endpoint.sealed_secret).as_str(), open(&previous.sealed).as_str()), (secret, "first"));
    let read = app.get(&place).await.ok(200);
    assert_eq!((&read["callback_secret"], &read["callback_secret_set"]), (&json!(""), &json!(true)));

    let answer = rotate(json!({ "callback_secret": "third", "grace_seconds": 60 })).await.ok(200);
    assert_eq!(answer["callback_secret"], "third");
    assert_eq!(answer["previous_secret_until"], "2026-11-21T12:01:00Z");
    assert_eq!(rotate(json!({ "grace_seconds": 0 })).await.ok(200)["previous_secret_until"], Value::Null);
    rotate(json!({})).await.ok(200);
    // Set as any field, a secret takes the place of all before it at once.
    app.patch(&place, json!({ "callback_secret": "last" })).await.ok(200);
    let endpoint = endpoint_where(&|endpoint| open(&endpoint.sealed_secret) == "last").await;
    assert!(endpoint.previous_secret.is_none());

    let errors = rotate(json!({ "callback_secret": [], "grace_seconds": -1 })).await.ok(400);
    assert!(errors["callback_secret"].is_array() && errors["grace_seconds"].is_array(), "{errors}");
    app.post("periodic-agents/999/rotate-secret/", json!({})).await.ok(404);
}
