//! Lists: pages and their links, filters, order, search, statistics.

use model::run::{RunReason, RunResult, RunState};
use serde_json::{Value, json};

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, World, path};

fn titles(page: &Value) -> Vec<&str> {
    page["results"].as_array().unwrap().iter().map(|agent| agent["title"].as_str().unwrap()).collect()
}

/// Agents called so, a second after each other.
async fn agents_called(app: &App<'_>, mentor: &Value, titles: &[&str]) -> Vec<i64> {
    let mut ids = Vec::new();
    for title in titles {
        ids.push(app.agent(mentor, json!({ "title": title })).await["id"].as_i64().unwrap());
        app.advance(1).await;
    }
    ids
}

#[tokio::test]
async fn pages_link_to_their_neighbours_and_keep_the_rest_of_the_query() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    assert_eq!(
        app.get("periodic-agents/").await.ok(200),
        json!({ "count": 0, "next": null, "previous": null, "results": [] })
    );
    agents_called(&app, &mentor, &["a", "b", "c", "d", "e"]).await;
    let link = |query: &str| json!(format!("{}{}?{query}", app.base, path("periodic-agents/")));

    let first = app.get("periodic-agents/?page_size=2&enabled=true&ordering=title").await.ok(200);
    assert_eq!((&first["count"], titles(&first)), (&json!(5), vec!["a", "b"]));
    assert_eq!(first["next"], link("enabled=true&ordering=title&page=2&page_size=2"));
    assert_eq!(first["previous"], Value::Null);
    let second = app.get("periodic-agents/?page=2&page_size=2&enabled=true&ordering=title").await.ok(200);
    assert_eq!(titles(&second), ["c", "d"]);
    assert_eq!(second["previous"], link("enabled=true&ordering=title&page_size=2"));
    let last = app.get("periodic-agents/?page=last&page_size=2&ordering=title").await.ok(200);
    assert_eq!((titles(&last), &last["next"]), (vec!["e"], &Value::Null));
    for page in ["0", "4", "x", "-1"] {
        let answer = app.get(&format!("periodic-agents/?page={page}&page_size=2")).await;
        assert_eq!(answer.ok(404), json!({ "detail": "Invalid page.", "code": "not_found" }));
    }
    assert_eq!(titles(&app.get("periodic-agents/?page_size=0").await.ok(200)).len(), 5);
}

#[tokio::test]
async fn links_name_the_host_that_was_asked_whatever_headers_for_proxies_say() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    agents_called(&app, &mentor, &["a", "b"]).await;
    let authorization = format!("Bearer {}", world.admin_token());
    let headers = [
        ("authorization", authorization.as_str()),
        ("host", "carillon.example"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ];
    let answer = app.send("GET", &path("periodic-agents/?page_size=1"), &headers, Vec::new()).await;
    let link = format!("http://carillon.example{}?page=2&page_size=1", path("periodic-agents/"));
    assert_eq!(answer.ok(200)["next"], link);
}

#[tokio::test]
async fn links_begin_with_the_public_url_where_there_is_one() {
    let mut world = World::new().await;
    world.config.public_url = Some("https://api.example.com/carillon/".parse().unwrap());
    let app = world.open().await;
    let mentor = app.mentor().await;
    agents_called(&app, &mentor, &["a", "b"]).await;
    let next = app.get("periodic-agents/?page_size=1").await.ok(200)["next"].clone();
    let list = path("periodic-agents/");
    assert_eq!(next, format!("https://api.example.com/carillon{list}?page=2&page_size=1"));
}

#[tokio::test]
async fn the_newest_come_first_unless_another_order_is_asked_for() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let ids = agents_called(&app, &mentor, &["b", "a", "c"]).await;
    app.patch(&format!("periodic-agents/{}/", ids[0]), json!({ "parent_mentor_id": 5 })).await.ok(200);
    let ordered = async |ordering: &str| {
        let page = app.get(&format!("periodic-agents/?ordering={ordering}")).await.ok(200);
        titles(&page).join("")
    };
    assert_eq!(ordered("").await, "cab");
    assert_eq!(ordered("nonsense").await, "cab");
    assert_eq!(ordered("title").await, "abc");
    assert_eq!(ordered("-title,id").await, "cba");
    assert_eq!(ordered("created_at").await, "bac");
    assert_eq!(ordered("-modified_at").await, "bca");
    assert_eq!(ordered("parent_mentor_id").await, "bca", "what is null comes last");
    for name in [
        "id",
        "username",
        "description",
        "prompt",
        "enabled",
        "one_off",
        "pathway",
        "callback_url",
        "parent_session_id",
        "previous_agent",
        "previous_agent_status",
        "next_fire_time",
        "last_status",
    ] {
        app.get(&format!("periodic-agents/?ordering=-{name}")).await.ok(200);
    }
}

#[tokio::test]
async fn agents_are_filtered_by_everything_that_the_contract_lists() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let other = app.post("", json!({ "name": "Other", "provider": { "kind": "echo" } })).await.ok(201);
    let first = app.agent(&mentor, json!({ "title": "A b", "parent_session_id": "s-1", "parent_mentor_id": 7 })).await;
    let task = json!({ "crontab": {}, "enabled": false });
    let more =
        json!({ "title": "second", "previous_agent": first["id"], "previous_agent_status": "error", "task": task });
    app.agent(&other, more).await;
    let mentor_uuid = mentor["unique_id"].as_str().unwrap();
    let previous = first["id"].clone();
    for (query, expected) in [
        ("enabled=true".to_owned(), "A b"),
        ("enabled=False".to_owned(), "second"),
        (format!("mentor_id={mentor_uuid}"), "A b"),
        (format!("mentor_id={}", other["id"]), "second"),
        ("mentor_id=nobody".to_owned(), ""),
        ("title=A+b".to_owned(), "A b"),
        ("title=a+b".to_owned(), ""),
        ("username=admin%40acme.example&enabled=true".to_owned(), "A b"),
        ("username=bob".to_owned(), ""),
        ("parent_session_id=s-1".to_owned(), "A b"),
        ("parent_mentor_id=7".to_owned(), "A b"),
        ("parent_mentor_id=99999999999999999999".to_owned(), ""),
        (format!("previous_agent={previous}"), "second"),
        ("previous_agent_status=error".to_owned(), "second"),
        ("status=success".to_owned(), ""),
    ] {
        let page = app.get(&format!("periodic-agents/?{query}")).await.ok(200);
        assert_eq!(titles(&page).join(","), expected, "{query}");
    }
    for ignored in ["enabled=1", "enabled=", "status=", "start_date=2026-01-01", "no_such=1", "status=pending"] {
        assert_eq!(app.get(&format!("periodic-agents/?{ignored}")).await.ok(200)["count"], 2, "{ignored}");
    }
    let no_choice = "Select a valid choice. That choice is not one of the available choices.";
    let errors = app.get("periodic-agents/?status=zz&previous_agent=999&parent_mentor_id=x").await.ok(400);
    assert_eq!(
        errors,
        json!({
            "status": ["Select a valid choice. zz is not one of the available choices."],
            "previous_agent": [no_choice],
            "parent_mentor_id": ["Enter a number."],
        })
    );
}

#[tokio::test]
async fn search_finds_every_term_in_any_field_whatever_the_case() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({ "title": "Überblick", "description": "100% of it", "prompt": "Daily report" })).await;
    app.agent(&mentor, json!({ "title": "Weekly", "prompt": "report of the week" })).await;
    for (search, count) in [
        ("report", 2),
        ("REPORT,daily", 1),
        ("%C3%9CBERBLICK", 1),
        ("report+nothing", 0),
        ("%22daily+report%22", 1),
        ("%22report+daily%22", 0),
        ("100%25", 1),
        ("1__%25", 0),
        ("", 2),
    ] {
        assert_eq!(app.get(&format!("periodic-agents/?search={search}")).await.ok(200)["count"], count, "{search}");
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_given_up_and_says_how_to_narrow_it() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "title": "Daily" })).await["id"].as_i64().unwrap();
    let quiet = app.agent(&mentor, json!({ "title": "Weekly" })).await["id"].clone();
    let now = world.clock.now();
    world.record((1..=20).map(|id| pending_run(id, "acme", agent, now)).collect()).await;
    world.until_rows("logs", 20).await;
    // At every place of these logs the term seems to begin.
    world.execute(
        "UPDATE log_bodies SET content = repeat('0', 1000000)",
        "UPDATE log_bodies SET content = hex(zeroblob(500000))",
    );
    let search = format!("{}1", "0".repeat(499));
    let error = app.get(&format!("periodic-agent-logs/?search={search}")).await.ok(400);
    assert!(error["detail"].as_str().unwrap().contains("Narrow it by a filter, as periodic_agent"), "{error}");
    let narrowed = app.get(&format!("periodic-agent-logs/?search={search}&periodic_agent={quiet}")).await.ok(200);
    assert_eq!(narrowed["count"], 0);
}

#[tokio::test]
async fn a_query_of_any_size_is_answered() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({ "title": "a" })).await;
    let (terms, term) = ("a+".repeat(3_000), "x".repeat(60_000));
    let fields = "next_fire_time,last_status,previous_agent,parent_mentor_id,reason,start_time,end_time,".repeat(100);
    assert_eq!(app.get(&format!("periodic-agents/?search={terms}")).await.ok(200)["count"], 1);
    assert_eq!(app.get(&format!("periodic-agents/?search={term}")).await.ok(200)["count"], 0);
    app.get(&format!("periodic-agents/?ordering={fields}")).await.ok(200);
    app.get(&format!("periodic-agent-logs/?ordering={fields}&search={terms}")).await.ok(200);
}

#[tokio::test]
async fn statistics_and_status_follow_each_agents_newest_log() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let ids = agents_called(&app, &mentor, &["ok", "failed", "running", "never"]).await;
    let now = world.clock.now();
    let ended = |id: i64, agent: i64, reason: Option<RunReason>| {
        let mut record = pending_run(id, "acme", agent, now);
        record.result = Some(RunResult { reason, log: "the log".into(), ..RunResult::default() });
        record.state = record.result.as_ref().unwrap().state();
        (record.started_at, record.ended_at) = (Some(now), Some(now));
        record
    };
    let mut running = pending_run(14, "acme", ids[2], now);
    running.state = RunState::Running;
    let batch = vec![
        ended(11, ids[0], Some(RunReason::Lost)),
        ended(12, ids[0], None),
        ended(13, ids[1], Some(RunReason::ProviderFailed)),
        running,
    ];
    world.record(batch).await;
    let all = |value: &Value| value["pending_tasks"] == 1;
    let statistics = app.eventually("periodic-agents/statistics/", all).await;
    assert_eq!(
        statistics,
        json!({ "total_tasks": 4, "succeeded_tasks": 1, "failed_tasks": 1, "running_tasks": 1, "pending_tasks": 1 })
    );
    for (status, title) in [("success", "ok"), ("error", "failed"), ("running", "running"), ("pending", "never")] {
        let page = app.get(&format!("periodic-agents/?status={status}")).await.ok(200);
        assert_eq!(titles(&page), [title]);
        assert_eq!(page["results"][0]["last_status"], status);
    }
    let uuid = mentor["unique_id"].as_str().unwrap();
    assert_eq!(app.get(&format!("periodic-agents/statistics/?mentor_id={uuid}")).await.ok(200), statistics);
    assert_eq!(app.get("periodic-agents/statistics/?mentor_id=nobody").await.ok(200)["total_tasks"], 0);
    assert_eq!(app.get("periodic-agents/statistics/?status=error").await.ok(200)["total_tasks"], 1);

    let logs = async |query: &str| app.get(&format!("periodic-agent-logs/?{query}")).await.ok(200)["count"].clone();
    assert_eq!(logs("").await, 4);
    assert_eq!(logs("status=error").await, 2);
    assert_eq!(logs("status=running").await, 1);
    assert_eq!(logs(&format!("periodic_agent={}", ids[0])).await, 2);
    assert_eq!(logs(&format!("mentor_id={uuid}&username=admin@acme.example")).await, 4);
    assert_eq!(logs("search=THE+log").await, 3);
    assert_eq!(logs("search=RUNNING").await, 1, "the agent's title is searched, too");
    assert_eq!(logs("parent_mentor_id=x").await, 0);
    assert_eq!(logs("parent_session_id=none").await, 0);
    for name in [
        "id",
        "status",
        "start_time",
        "end_time",
        "created_at",
        "modified_at",
        "periodic_agent",
        "sequence",
        "fire_time",
        "nominal_time",
        "run_attempt",
        "trigger",
        "state",
    ] {
        assert_eq!(logs(&format!("ordering=-{name}")).await, 4);
    }
    let newest = app.get("periodic-agent-logs/?ordering=-created_at").await.ok(200);
    assert_eq!(newest["results"][0]["id"], 14);
    let errors = app.get("periodic-agent-logs/?status=pending&periodic_agent=999").await.ok(400);
    assert_eq!(errors["status"], json!(["Select a valid choice. pending is not one of the available choices."]));
    assert!(errors["periodic_agent"].is_array());
}
