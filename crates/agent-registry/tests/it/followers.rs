//! Followers in lists: each shows what the agent before it put out.

use model::run::{RunRecord, RunResult, RunState};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{ORG, World};

fn ended(id: i64, agent_id: i64, world: &World, output: &str) -> RunRecord {
    let now = world.clock.now();
    RunRecord {
        state: RunState::Success,
        ended_at: Some(now),
        result: Some(RunResult { output: output.to_owned(), ..RunResult::default() }),
        ..pending_run(id, ORG, agent_id, now)
    }
}

#[tokio::test]
async fn followers_in_a_list_show_what_their_own_agents_put_out_last() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(app.agent(&mentor, json!({})).await["id"].as_i64().unwrap());
    }
    for (previous, status) in [
        (firsts[2], "error"),
        (firsts[0], "success"),
        (firsts[1], "success"),
        (firsts[0], "success"),
        (firsts[3], "success"),
    ] {
        let follows = json!({
            "previous_agent": previous, "previous_agent_status": status, "parent_session_id": "followers",
        });
        app.agent(&mentor, follows).await;
    }
    let large = "é".repeat(70_000);
    let mut older = ended(41, firsts[0], &world, "older");
    older.requested_at -= chrono::TimeDelta::seconds(1);
    let mut failed = ended(43, firsts[2], &world, "what it came to");
    failed.state = RunState::Error;
    let running = RunRecord { state: RunState::Running, ..pending_run(45, ORG, firsts[2], world.clock.now()) };
    let batch =
        vec![ended(40, firsts[0], &world, "newest"), older, ended(42, firsts[1], &world, &large), failed, running];
    world.record(batch).await;
    world.until_rows("logs", 5).await;

    let page = app.get("periodic-agents/?parent_session_id=followers&ordering=id").await.ok(200);
    let outputs: Vec<&str> = page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["previous_agent_output"].as_str().unwrap())
        .collect();
    let beginning = "é".repeat(65_536);
    assert!(outputs == ["what it came to", "newest", &beginning, "newest", ""], "{outputs:?}");
}

#[tokio::test]
async fn a_follower_shows_the_output_that_it_will_be_given_and_no_newer_one() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let mut followers = Vec::new();
    for status in ["success", "error", "running", "pending"] {
        let follows = json!({ "previous_agent": first, "previous_agent_status": status });
        followers.push((app.agent(&mentor, follows).await["id"].as_i64().unwrap(), status));
    }
    let mut succeeded = ended(40, first, &world, "A1");
    succeeded.requested_at -= chrono::TimeDelta::minutes(30);
    let failed = RunRecord { state: RunState::Error, ..ended(41, first, &world, "what it came to") };
    world.record(vec![succeeded, failed]).await;
    world.until_rows("logs", 2).await;

    for (id, status) in followers {
        let expected = if status == "success" { "A1" } else { "what it came to" };
        let place = format!("periodic-agents/{id}/");
        assert_eq!(app.get(&place).await.ok(200)["previous_agent_output"], expected, "{status}");
        let listed = app.get(&format!("periodic-agents/?previous_agent_status={status}&previous_agent={first}")).await;
        assert_eq!(listed.ok(200)["results"][0]["previous_agent_output"], expected, "{status}");
        assert_eq!(app.patch(&place, json!({})).await.ok(200)["previous_agent_output"], expected, "{status}");
    }
}
