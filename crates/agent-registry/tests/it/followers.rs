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
    for previous in [firsts[2], firsts[0], firsts[1], firsts[0], firsts[3]] {
        app.agent(&mentor, json!({ "previous_agent": previous, "parent_session_id": "followers" })).await;
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
