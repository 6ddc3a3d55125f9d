//! Lists whose entries have large texts: sent as they are read, and for clients like any other.

use futures::future::try_join_all;
use model::run::{RunRecord, RunResult, RunState};
use serde_json::{Value, json};

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, ORG, World, path};

/// The most characters of a prompt and of a description.
const PROMPT: usize = 128 * 1024;
const DESCRIPTION: usize = 64 * 1024;

fn ended(id: i64, agent_id: i64, world: &World, output: &str) -> RunRecord {
    let now = world.clock.now();
    RunRecord {
        state: RunState::Success,
        ended_at: Some(now),
        result: Some(RunResult { output: output.to_owned(), ..RunResult::default() }),
        ..pending_run(id, ORG, agent_id, now)
    }
}

/// Asserts that a list is its entries in this order, each to the byte what it is alone.
async fn assert_list_is(app: &App<'_>, list: &str, entries: &[String]) {
    let mut shown = Vec::new();
    for entry in entries {
        let answer = app.get(entry).await;
        assert_eq!(answer.status, 200);
        shown.push(answer.text);
    }
    let answer = app.get(list).await;
    let count = entries.len();
    let whole = format!(r#"{{"count":{count},"next":null,"previous":null,"results":[{}]}}"#, shown.join(","));
    assert!(answer.text == whole, "{list}: {} bytes are not the {} expected", answer.text.len(), whole.len());
    assert_eq!((answer.status.as_u16(), &answer.headers["content-type"]), (200, &"application/json".parse().unwrap()));
}

#[tokio::test]
async fn a_page_of_large_agents_is_to_the_byte_what_each_of_them_is_alone() {
    let world = World::new().await;
    let app = world.open().await;
    let small = app.mentor().await;
    let large = json!({ "name": "Large", "provider": { "kind": "echo" }, "system_prompt": "\"\u{1}é".repeat(40_000) });
    let large = app.post("", large).await.ok(201);
    let texts = json!({ "prompt": "😀".repeat(PROMPT), "description": "a\\\n€".repeat(DESCRIPTION / 4) });
    let first = app.agent(&large, texts.clone()).await["id"].clone();
    let follower = app.agent(&small, json!({ "previous_agent": first })).await["id"].clone();
    let mut ids = vec![first.clone(), follower];
    for (mentor, more) in [(&small, texts), (&large, json!({})), (&small, json!({})), (&large, json!({}))] {
        ids.push(app.agent(mentor, more).await["id"].clone());
    }
    world.record(vec![ended(42, first.as_i64().unwrap(), &world, &"😀é".repeat(100_000))]).await;
    app.eventually("periodic-agents/?status=success", |page| page["count"] == 1).await;

    let places: Vec<String> = ids.iter().map(|id| format!("periodic-agents/{id}/")).collect();
    assert_list_is(&app, "periodic-agents/?ordering=id&page_size=100", &places).await;
    let downwards: Vec<String> = places.iter().rev().cloned().collect();
    assert_list_is(&app, "periodic-agents/?ordering=-id", &downwards).await;
    let of_large = [0, 3, 5].map(|index| places[index].clone());
    assert_list_is(&app, &format!("periodic-agents/?ordering=id&mentor_id={}", large["id"]), &of_large).await;
}

#[tokio::test]
async fn a_page_of_large_mentors_is_to_the_byte_what_each_of_them_is_alone() {
    let world = World::new().await;
    let app = world.open().await;
    let mut places = Vec::new();
    for (index, prompt) in ["é".repeat(PROMPT), "\n".repeat(PROMPT), "a".into(), "\"".repeat(PROMPT)].iter().enumerate()
    {
        let metadata = json!({ "notes": prompt, "more": [1, null, { "x": 0.5 }] });
        let mentor = json!({ "name": format!("M{index}"), "system_prompt": prompt, "metadata": metadata });
        places.push(format!("mentors/{}/", app.post("", mentor).await.ok(201)["slug"].as_str().unwrap()));
    }
    assert_list_is(&app, "?filter_by=name&page_size=100", &places).await;
}

#[tokio::test]
async fn a_page_is_cut_by_the_outputs_that_its_followers_show_and_by_no_others() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    for status in ["success", "error"] {
        for _ in 0..3 {
            app.agent(&mentor, json!({ "previous_agent": first, "previous_agent_status": status })).await;
        }
    }
    let mut succeeded = ended(40, first, &world, &"😀".repeat(70_000));
    succeeded.requested_at -= chrono::TimeDelta::minutes(30);
    let failed = RunRecord { state: RunState::Error, ..ended(41, first, &world, "short") };
    world.record(vec![succeeded, failed]).await;
    world.until_rows("logs", 2).await;

    // What is answered in one go has a length.
    for (status, is_whole) in [("success", false), ("error", true)] {
        let page = app.get(&format!("periodic-agents/?previous_agent_status={status}&previous_agent={first}")).await;
        assert_eq!(page.headers.contains_key("content-length"), is_whole, "{status}");
        assert_eq!(page.ok(200)["count"], 3);
    }
}

#[tokio::test]
async fn who_stops_reading_a_list_keeps_nobody_from_the_database_and_finds_what_is_left_of_it() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let texts = json!({ "prompt": "😀".repeat(PROMPT), "description": "😀".repeat(DESCRIPTION) });
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(app.agent(&mentor, texts.clone()).await["id"].clone());
    }
    // Many more than there are connections to the database: asked, being answered, and not read on.
    let list = format!("{}{}", app.base, path("periodic-agents/?ordering=id"));
    let asked = (0..12).map(|_| app.http.get(&list).bearer_auth(world.admin_token()).send());
    let mut stopped = try_join_all(asked).await.unwrap();
    app.get("periodic-agent-logs/").await.ok(200);
    let gone = ids.pop().unwrap();
    app.delete(&format!("periodic-agents/{gone}/")).await.ok(204);

    let page: Value = stopped.pop().unwrap().json().await.unwrap();
    let left: Vec<Value> = page["results"].as_array().unwrap().iter().map(|agent| agent["id"].clone()).collect();
    assert!((&page["count"], &left) == (&json!(24), &ids), "{left:?}");
}

#[tokio::test]
async fn a_mentor_that_is_deleted_while_its_page_is_sent_is_not_shown() {
    let world = World::new().await;
    let app = world.open().await;
    let notes = "n".repeat(768 * 1024);
    for index in 10..34 {
        let mentor =
            json!({ "name": format!("M{index}"), "provider": { "kind": "echo" }, "metadata": { "n": &notes } });
        app.post("", mentor).await.ok(201);
    }
    app.agent(&app.get("mentors/m33/").await.ok(200), json!({})).await;
    let list = format!("{}{}", app.base, path("?filter_by=name"));
    let begun = app.http.get(&list).bearer_auth(world.admin_token()).send().await.unwrap();
    app.delete("m33/").await.ok(204);

    let page: Value = begun.json().await.unwrap();
    let names: Vec<&str> =
        page["results"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let left: Vec<String> = (10..33).map(|index| format!("M{index}")).collect();
    assert!((&page["count"], &names[..]) == (&json!(24), &left.iter().map(String::as_str).collect::<Vec<_>>()[..]));
}

#[tokio::test]
async fn agents_of_a_mentor_with_large_metadata_are_listed_in_time() {
    let world = World::new().await;
    let app = world.open().await;
    // Megabytes that take PostgreSQL long to write out: a list has three seconds.
    let metadata = json!({ "n": vec![0; 1_900_000] });
    let mentor = json!({ "name": "M", "provider": { "kind": "echo" }, "metadata": metadata });
    let mentor = app.post("", mentor).await.ok(201);
    for _ in 0..25 {
        app.agent(&mentor, json!({})).await;
    }
    assert_eq!(app.get("periodic-agents/").await.ok(200)["count"], 25);
    assert_eq!(app.get("").await.ok(200)["count"], 1);
}
