//! What is kept how long.

use chrono::TimeDelta;
use model::run::{RunRecord, RunState};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{ORG, World, start};

const HOUR: i64 = 3600;

fn run(id: i64, agent_id: i64, state: RunState, days_ago: i64) -> RunRecord {
    let then = start() - TimeDelta::days(days_ago);
    let ended_at = state.is_final().then_some(then);
    RunRecord { state, ended_at, ..pending_run(id, ORG, agent_id, then) }
}

#[tokio::test]
async fn logs_of_ended_runs_are_kept_as_long_as_the_organisation_wants_and_agents_keep_their_status() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let runs = vec![
        run(1, id, RunState::Success, 12),
        run(2, id, RunState::Running, 11),
        run(3, id, RunState::Error, 11),
        run(4, id, RunState::Success, 9),
    ];
    world.record(runs).await;
    world.until_rows("logs", 4).await;
    app.organisation(Some(json!({ "retention": { "logs_days": 10 } }))).await.ok(200);
    world.until_rows("logs", 2).await;
    world.until_rows("log_bodies", 2).await;
    let logs = app.get("periodic-agent-logs/?ordering=id").await.ok(200);
    let left: Vec<_> = logs["results"].as_array().unwrap().iter().map(|log| log["id"].clone()).collect();
    assert_eq!(left, [json!(2), json!(4)], "not yet ended, and not yet old");
    app.organisation(Some(json!({ "retention": { "logs_days": 8 } }))).await.ok(200);
    world.until_rows("logs", 1).await;
    assert_eq!(app.get(&format!("periodic-agents/{id}/")).await.ok(200)["last_status"], "success");
}

#[tokio::test]
async fn where_nobody_says_otherwise_the_configuration_does_for_logs_and_the_audit_log() {
    let mut world = World::new().await;
    world.config.registry.logs_days = 5;
    world.config.registry.audit_days = 7;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    world.record(vec![run(1, id, RunState::Success, 6), run(2, id, RunState::Success, 4)]).await;
    // The older one may be gone already, if the sweeper is late to begin.
    world.until_rows("logs WHERE id = 2", 1).await;
    app.advance(HOUR).await;
    world.until_rows("logs", 1).await;
    assert_eq!(world.rows("audit_log"), 3);
    app.advance(7 * 24 * HOUR).await;
    world.until_rows("audit_log", 0).await;
}

#[tokio::test]
async fn a_deletion_is_no_reason_to_look_at_what_is_old() {
    let mut world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let mut agents = Vec::new();
    for _ in 0..6 {
        agents.push(app.agent(&mentor, json!({})).await["id"].as_i64().unwrap());
    }
    let nearly_old = start() - TimeDelta::days(5) + TimeDelta::minutes(10);
    let nearly_old = RunRecord { requested_at: nearly_old, ..run(2, agents[0], RunState::Success, 5) };
    world.record(vec![run(1, agents[0], RunState::Success, 6), nearly_old]).await;
    world.until_rows("logs", 2).await;
    app.stop().await;

    world.config.registry.logs_days = 5;
    let app = world.open().await;
    // What is old at the start is gone: the sweeper has begun, and begins again in an hour.
    world.until_rows("logs", 1).await;
    app.advance(HOUR / 2).await;
    for agent in &agents[1..] {
        app.delete(&format!("periodic-agents/{agent}/")).await;
        world.until_rows("deleted_agents", 0).await;
        assert_eq!(world.rows("logs"), 1);
    }
    app.advance(HOUR / 2).await;
    world.until_rows("logs", 0).await;
}
