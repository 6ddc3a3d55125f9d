//! One-offs: finished once per timing version, and good for another run when turned on again.

use bus::Queue;
use model::document::{Document, DocumentKind, Subject};
use model::id::AgentId;
use model::run::{RunResult, RunState, ScheduleRecord};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{World, document_where};

const AGENT: DocumentKind = DocumentKind::Agent;

fn schedule(document: &Document) -> &model::document::Schedule {
    match &document.subject {
        Subject::Agent(agent) => &agent.schedule,
        other => panic!("no agent: {other:?}"),
    }
}

#[tokio::test]
async fn a_finished_one_off_is_turned_off_for_the_timing_that_finished() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({ "task": { "crontab": {}, "one_off": true } })).await;
    let id = agent["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/");
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let is_agent = |document: &Document| document.kind() == AGENT;
    let first = document_where(&mut queue, is_agent).await;

    app.advance(60).await;
    let mut record = pending_run(5, "acme", id, world.clock.now());
    record.state = RunState::Success;
    record.result = Some(RunResult::default());
    record.finished_timing_version = Some(schedule(&first).timing_version);
    world.record(vec![record.clone()]).await;
    let read = app.eventually(&place, |agent| agent["enabled"] == false).await;
    assert_eq!((&read["task"]["enabled"], &read["last_status"]), (&json!(false), &json!("success")));
    let second = document_where(&mut queue, is_agent).await;
    assert!(second.version > first.version && !schedule(&second).enabled);
    assert_eq!(schedule(&second).timing_version, schedule(&first).timing_version);

    // Turned on again it is good for one more run, and the same word said once more changes nothing.
    app.patch(&place, json!({ "task": { "enabled": true } })).await.ok(200);
    let third = document_where(&mut queue, is_agent).await;
    assert!(schedule(&third).timing_version > schedule(&second).timing_version);
    world.record(vec![record]).await;
    world.record(vec![pending_run(6, "acme", id, world.clock.now())]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 2).await;
    assert_eq!(app.get(&place).await.ok(200)["enabled"], true);
}

#[tokio::test]
async fn one_whose_tick_came_to_no_run_is_turned_off_too_and_others_show_when_they_fire_next() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let task = |one_off: bool| json!({ "task": { "crontab": {}, "one_off": one_off } });
    let once = app.agent(&mentor, task(true)).await["id"].as_i64().unwrap();
    let often = app.agent(&mentor, task(false)).await["id"].as_i64().unwrap();
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let of_agent = |id: i64| move |document: &Document| document.key() == id.to_string() && document.kind() == AGENT;
    let told = document_where(&mut queue, of_agent(once)).await;
    app.advance(60).await;
    let next = world.clock.now() + chrono::TimeDelta::hours(1);
    for (agent_id, next_fire_time, finished) in
        [(once, None, Some(schedule(&told).timing_version)), (often, Some(next), None)]
    {
        let agent_id = AgentId(agent_id);
        world.stand(ScheduleRecord { agent_id, next_fire_time, finished_timing_version: finished }).await;
    }
    let read = app.eventually(&format!("periodic-agents/{once}/"), |agent| agent["enabled"] == false).await;
    assert_eq!(read["next_fire_time"], json!(null));
    let shown = json!(next.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    let read = app.eventually(&format!("periodic-agents/{often}/"), |agent| agent["next_fire_time"] == shown).await;
    assert_eq!(read["enabled"], true);
}
