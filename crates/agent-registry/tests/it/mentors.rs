//! Mentors: create, list, retrieve, and what happens to those that cannot be asked.

use bus::Queue;
use futures::future::join_all;
use model::document::{Document, Subject};
use model::wire::Wire;
use serde_json::{Value, json};

use crate::harness::{World, document_where};

#[tokio::test]
async fn a_mentor_is_found_by_name_slug_and_public_id() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.post("", json!({ "name": "Ada Lovelace", "metadata": { "a": 1 } })).await.ok(201);
    assert_eq!(mentor["slug"], "ada-lovelace");
    assert_eq!((&mentor["platform"], &mentor["created_by"]), (&json!("acme"), &json!("admin@acme.example")));
    assert_eq!(
        (&mentor["flow"], &mentor["metadata"], &mentor["allow_anonymous"]),
        (&Value::Null, &json!({ "a": 1 }), &json!(false))
    );
    for name in ["Ada%20Lovelace", "ada-lovelace", mentor["unique_id"].as_str().unwrap()] {
        assert_eq!(app.get(&format!("mentors/{name}/")).await.ok(200), mentor);
    }
    let second = app.post("", json!({ "name": "Ada Lovelace" })).await.ok(201);
    assert_ne!(second["slug"], mentor["slug"]);
    let page = app.get("?filter_by=name&page_size=1").await.ok(200);
    assert_eq!((&page["count"], &page["results"][0]["id"]), (&json!(2), &mentor["id"]));
    assert!(page["next"].as_str().unwrap().ends_with("/?filter_by=name&page=2&page_size=1"), "{page}");
}

#[tokio::test]
async fn public_ids_and_slugs_may_be_chosen_once() {
    let world = World::new().await;
    let app = world.open().await;
    let body = json!({ "name": "A", "unique_id": "6b2f8d1e-8c7e-4b6e-9f3a-111111111111", "slug": "my_slug" });
    let mentor = app.post("", body.clone()).await.ok(201);
    assert_eq!((&mentor["unique_id"], &mentor["slug"]), (&body["unique_id"], &body["slug"]));
    let errors = app.post("", body).await.ok(400);
    assert_eq!(errors, json!({ "unique_id": ["This field must be unique."], "slug": ["This field must be unique."] }));
    let errors = app.post("", json!({ "name": "A", "unique_id": "zz", "slug": "a b" })).await.ok(400);
    assert_eq!(errors["unique_id"], json!(["Must be a valid UUID."]));
    assert!(errors["slug"].is_array());
}

#[tokio::test]
async fn a_mentor_with_settings_starts_from_a_template() {
    let world = World::new().await;
    let app = world.open().await;
    let templates = app.get("available-template-mentors/").await.ok(200);
    let names: Vec<_> = templates.as_array().unwrap().iter().map(|template| template["name"].clone()).collect();
    assert_eq!(names, ["ai-mentor", "mentorAI"]);
    let body = json!({
        "template_name": "ai-mentor", "new_mentor_name": "helper", "display_name": "Helper", "system_prompt": "Be brief.",
        "llm_provider": "openai", "llm_name": "gpt-x", "llm_temperature": "0.5", "categories": [1], "mcp_servers": [],
    });
    let mentor = app.post("mentor-with-settings/", body).await.ok(200);
    assert_eq!((&mentor["name"], &mentor["display_name"]), (&json!("helper"), &json!("Helper")));
    assert_eq!((&mentor["system_prompt"], &mentor["llm_temperature"]), (&json!("Be brief."), &json!(0.5)));
    assert!(mentor["unique_id"].is_string());

    let unknown = app.post("mentor-with-settings/", json!({ "template_name": "X", "new_mentor_name": "n" })).await;
    assert_eq!(unknown.ok(400), json!({ "error": "Template mentor X not found." }));
    let missing = app.post("mentor-with-settings/", json!({})).await.ok(400);
    let required = json!(["This field is required."]);
    assert_eq!(missing, json!({ "template_name": required, "new_mentor_name": required }));
}

#[tokio::test]
async fn a_mentor_that_nobody_can_ask_is_kept_and_refused_by_its_first_agent() {
    let world = World::new().await;
    let app = world.open().await;
    let agent_of = |mentor: &Value| json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} } });
    for (mentor, setting) in [
        (json!({ "name": "A" }), "`providers.default`"),
        (json!({ "name": "B", "llm_provider": "azure" }), "`providers.azure`"),
    ] {
        let mentor = app.post("", mentor).await.ok(201);
        let errors = app.post("periodic-agents/", agent_of(&mentor)).await.ok(400);
        assert!(errors["mentor"][0].as_str().unwrap().contains(setting), "{errors}");
    }
    for mentor in [
        json!({ "name": "C", "llm_provider": "openai", "llm_name": "gpt-x" }),
        json!({ "name": "D", "llm_provider": "echo" }),
        json!({ "name": "E", "provider": { "name": "openai" } }),
    ] {
        let mentor = app.post("", mentor).await.ok(201);
        app.post("periodic-agents/", agent_of(&mentor)).await.ok(201);
    }
    let unknown = app.post("", json!({ "name": "F", "provider": { "name": "azure" } })).await.ok(400);
    assert_eq!(unknown, json!({ "provider": { "name": ["\"azure\" is not configured: set `providers.azure`."] } }));
}

#[tokio::test]
async fn a_default_provider_serves_mentors_that_name_none() {
    let mut world = World::new().await;
    world.config.default_provider = Some("openai".into());
    let app = world.open().await;
    let mentor = app.post("", json!({ "name": "A", "llm_provider": "azure", "llm_name": "m" })).await.ok(201);
    app.agent(&mentor, json!({})).await;
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let document = document_where(&mut queue, |document| document.kind().as_str() == "mentor").await;
    let Subject::Mentor(mentor) = document.subject else { panic!("no mentor") };
    assert_eq!((mentor.provider.name.as_str(), mentor.provider.model.as_str()), ("openai", "m"));
}

#[tokio::test]
async fn nul_is_refused_wherever_it_stands() {
    let world = World::new().await;
    let app = world.open().await;
    let errors = app.post("", json!({ "name": "a\0b", "metadata": { "deep": ["\0"] } })).await.ok(400);
    let message = json!(["Null characters are not allowed."]);
    assert_eq!(errors, json!({ "name": message, "metadata": message }));
    app.get("mentors/a%00b/").await.ok(404);
    assert_eq!(app.get("?filter_by=%00").await.ok(200)["count"], 0);
    assert_eq!(app.get("periodic-agents/?title=%00&search=%00").await.ok(200)["count"], 0);
}

#[tokio::test]
async fn a_mentor_is_changed_by_its_name_and_keeps_what_a_change_does_not_speak_of() {
    let world = World::new().await;
    let app = world.open().await;
    let provider = json!({ "kind": "http", "base_url": "https://a.example/ask", "api_key": "k3y" });
    let mentor = app.post("", json!({ "name": "Ada L", "system_prompt": "Be.", "provider": provider })).await.ok(201);
    assert_eq!(app.get("Ada%20L/").await.ok(200), mentor);
    assert_eq!(mentor["provider"]["api_key_set"], true);

    let changed = app.patch("ada-l/", json!({ "description": "New", "metadata": null })).await.ok(200);
    assert_eq!((&changed["description"], &changed["system_prompt"]), (&json!("New"), &json!("Be.")));
    let put = app.put("ada-l/", json!({ "name": "Ada", "slug": "ada", "unique_id": mentor["unique_id"] })).await;
    let put = put.ok(200);
    assert_eq!((&put["name"], &put["slug"], &put["system_prompt"]), (&json!("Ada"), &json!("ada"), &json!("Be.")));
    assert_eq!(put["unique_id"], mentor["unique_id"]);
    assert_eq!(app.put("ada/", json!({})).await.ok(400), json!({ "name": ["This field is required."] }));
    app.get("ada-l/").await.ok(404);

    // What was read is written back without the key: the same provider keeps it, another one does not get it.
    let same = app.patch("ada/", json!({ "provider": put["provider"] })).await.ok(200);
    assert_eq!(same["provider"]["api_key_set"], true);
    let other = json!({ "kind": "http", "base_url": "https://thief.example/" });
    assert_eq!(app.patch("ada/", json!({ "provider": other })).await.ok(200)["provider"]["api_key_set"], false);

    app.post("", json!({ "name": "B", "slug": "taken" })).await.ok(201);
    let errors = app.patch("ada/", json!({ "slug": "taken" })).await.ok(400);
    assert_eq!(errors, json!({ "slug": ["This field must be unique."] }));
}

#[tokio::test]
async fn a_deleted_mentor_is_announced_as_gone_and_its_agents_say_so() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let place = format!("periodic-agents/{}/", agent["id"]);
    app.delete("ada/").await.ok(204);
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    document_where(&mut queue, |document| matches!(document.subject, Subject::MentorDeleted(_))).await;

    app.delete("ada/").await.ok(404);
    app.get("ada/").await.ok(404);
    app.get(&format!("mentors/{}/", mentor["unique_id"].as_str().unwrap())).await.ok(404);
    assert_eq!(app.get("").await.ok(200)["count"], 0);
    assert_eq!(app.get(&place).await.ok(200)["mentor"]["unique_id"], mentor["unique_id"]);
    assert_eq!(app.post(&format!("{place}run/"), json!({})).await.ok(409)["code"], "mentor_deleted");
    let body = json!({ "mentor": mentor["unique_id"], "title": "T", "task": { "crontab": {} } });
    let errors = app.post("periodic-agents/", body).await.ok(400);
    assert!(errors["mentor"][0].as_str().unwrap().ends_with("does not exist."));

    // An edit of an agent brings no mentor back, and its slug is free again.
    app.patch(&place, json!({ "title": "Still here" })).await.ok(200);
    let again = app.post("", json!({ "name": "Ada", "provider": { "kind": "echo" } })).await.ok(201);
    assert_eq!(again["slug"], "ada");
    app.patch(&place, json!({ "mentor": again["unique_id"] })).await.ok(200);
    app.post(&format!("{place}run/"), json!({})).await.ok(202);
}

#[tokio::test]
async fn the_wizard_makes_a_mentor_of_a_description() {
    let world = World::new().await;
    let app = world.open().await;
    let description = "Explains the weather of the coming week.";
    let mentor = app.post("create-mentor-wizard/", json!({ "name": "Weather", "description": description })).await;
    let mentor = mentor.ok(201);
    assert_eq!((&mentor["description"], &mentor["system_prompt"]), (&json!(description), &json!(description)));
    let errors = app.post("create-mentor-wizard/", json!({ "name": "x".repeat(101), "description": "short" })).await;
    let errors = errors.ok(400);
    assert!(errors["name"].is_array() && errors["description"].is_array(), "{errors}");
}

#[tokio::test]
async fn mentors_are_filtered_by_everything_that_the_contract_lists() {
    let world = World::new().await;
    let app = world.open().await;
    let metadata = [
        ("Ada", json!({ "team": "blue", "level": 3, "featured": true })),
        ("Bob", json!({ "team": "red", "featured": false })),
        ("Cyd", Value::Null),
        ("Dan", json!({ "team": null, "featured": "no" })),
    ];
    for (name, metadata) in metadata {
        app.post("", json!({ "name": name, "metadata": metadata })).await.ok(201);
        app.advance(1).await;
    }
    for (query, expected) in [
        ("", "Dan Cyd Bob Ada"),
        ("filter_by=date", "Dan Cyd Bob Ada"),
        ("filter_by=name", "Ada Bob Cyd Dan"),
        ("is_featured=true", "Ada"),
        ("is_featured=False", "Dan Cyd Bob"),
        ("is_featured=1", "Dan Cyd Bob Ada"),
        ("visibility=viewable_by_tenant_admins", "Dan Cyd Bob Ada"),
        ("visibility=viewable_by_anyone,viewable_by_tenant_admins", "Dan Cyd Bob Ada"),
        ("visibility=viewable_by_anyone", ""),
        ("visibility=", "Dan Cyd Bob Ada"),
        ("metadata_key=team", "Bob Ada"),
        ("metadata_key=team&metadata_value=blue", "Ada"),
        ("metadata_key=level&metadata_value=3", "Ada"),
        ("metadata_key=featured&metadata_value=false", "Bob"),
        ("metadata_key=nobody%27s&metadata_value=blue", ""),
        ("metadata_value=blue", "Dan Cyd Bob Ada"),
        ("department_id=7", ""),
        ("return_session_information=true", "Dan Cyd Bob Ada"),
        ("metadata_key=team&is_featured=false&filter_by=name", "Bob"),
    ] {
        let page = app.get(&format!("?{query}")).await.ok(200);
        let names: Vec<_> =
            page["results"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!((names.join(" ").as_str(), &page["count"]), (expected, &json!(names.len())), "{query}");
    }
    let errors = app.get("?department_id=x&filter_by=zz").await.ok(400);
    let unknown = "Select a valid choice. zz is not one of the available choices.";
    assert_eq!(errors, json!({ "department_id": ["Enter a number."], "filter_by": [unknown] }));
    let second = app.get("?metadata_key=team&page_size=1&page=2").await.ok(200);
    assert_eq!((&second["count"], &second["results"][0]["name"]), (&json!(2), &json!("Ada")));
}

#[tokio::test]
async fn agents_that_are_made_while_their_mentor_is_edited_leave_the_edit_as_it_is() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("{}/", mentor["unique_id"].as_str().unwrap());
    for number in 1..=20 {
        let prompt = format!("Edit {number}");
        let edit = app.patch(&place, json!({ "system_prompt": prompt }));
        let agents = async || join_all((0..6).map(|_| app.agent(&mentor, json!({})))).await;
        let (edited, ..) = tokio::join!(edit, agents(), agents());
        edited.ok(200);
        let written = world.column("documents", "body").into_iter().map(|body| Document::decode(&body).unwrap());
        let said = written.filter_map(|document| match document.subject {
            Subject::Mentor(mentor) => Some(mentor.system_prompt),
            _ => None,
        });
        assert_eq!(said.collect::<Vec<_>>(), [prompt]);
    }
}
