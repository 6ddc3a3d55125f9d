//! One-offs: finished once per timing version, and good for another run when turned on again.

use bus::Queue;
use model::document::{Document, Subject};
use model::id::AgentId;
use model::run::{RunResult, RunState, ScheduleRecord};
use serde_json::{Value, json};

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, World, document_where};

fn schedule(document: &Document) -> &model::document::Schedule {
    match &document.subject {
        Subject::Agent(agent) => &agent.schedule,
        other => panic!("no agent: {other:?}"),
    }
}

/// An agent that runs once, made with these fields beside, is turned off at its end, and good for one more run when it
/// is turned on again by this.
async fn is_good_for_another_run(app: &App<'_>, more: Value, turn_on: Value) {
    let world = app.world;
    let mentor = app.mentor().await;
    let mut said = json!({ "task": { "crontab": {}, "one_off": true } });
    for (name, value) in more.as_object().unwrap() {
        said[name] = value.clone();
    }
    let agent = app.agent(&mentor, said).await;
    let id = agent["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/");
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let is_agent = |document: &Document| matches!(&document.subject, Subject::Agent(agent) if agent.id == AgentId(id));
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
    app.patch(&place, turn_on).await.ok(200);
    let third = document_where(&mut queue, is_agent).await;
    assert!(schedule(&third).timing_version > schedule(&second).timing_version);
    world.record(vec![record]).await;
    world.record(vec![pending_run(6, "acme", id, world.clock.now())]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 2).await;
    assert_eq!(app.get(&place).await.ok(200)["enabled"], true);
}

/// An agent that others may follow.
async fn another(app: &App<'_>) -> Value {
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({})).await["id"].clone()
}

#[tokio::test]
async fn a_finished_one_off_is_turned_off_for_the_timing_that_finished() {
    let world = World::new().await;
    let app = world.open().await;
    is_good_for_another_run(&app, json!({}), json!({ "task": { "enabled": true } })).await;
}

#[tokio::test]
async fn so_is_one_that_follows_another() {
    let world = World::new().await;
    let app = world.open().await;
    let previous = another(&app).await;
    let follower = json!({ "previous_agent": previous });
    is_good_for_another_run(&app, follower, json!({ "task": { "enabled": true } })).await;
}

#[tokio::test]
async fn so_is_one_that_is_told_to_follow_another_as_it_is_turned_on_again() {
    let world = World::new().await;
    let app = world.open().await;
    let previous = another(&app).await;
    let turn_on = json!({ "previous_agent": previous, "task": { "enabled": true } });
    is_good_for_another_run(&app, json!({}), turn_on).await;
}

#[tokio::test]
async fn a_follower_that_is_turned_off_and_on_while_its_run_goes_on_is_left_on_when_that_ends() {
    let world = World::new().await;
    let app = world.open().await;
    let previous = another(&app).await;
    let mentor = app.mentor().await;
    let said = json!({ "previous_agent": previous, "task": { "crontab": {}, "one_off": true } });
    let id = app.agent(&mentor, said).await["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/");
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let is_agent = |document: &Document| matches!(&document.subject, Subject::Agent(agent) if agent.id == AgentId(id));
    let first = document_where(&mut queue, is_agent).await;

    app.patch(&place, json!({ "task": { "enabled": false } })).await.ok(200);
    app.patch(&place, json!({ "task": { "enabled": true } })).await.ok(200);
    let mut record = pending_run(5, "acme", id, world.clock.now());
    record.state = RunState::Success;
    record.result = Some(RunResult::default());
    record.finished_timing_version = Some(schedule(&first).timing_version);
    world.record(vec![record]).await;
    app.eventually(&place, |agent| agent["last_status"] == "success").await;
    assert_eq!(app.get(&place).await.ok(200)["enabled"], true);
}

#[tokio::test]
async fn a_follower_whose_time_is_over_is_not_turned_on_again() {
    let world = World::new().await;
    let app = world.open().await;
    let previous = another(&app).await;
    let mentor = app.mentor().await;
    let end = world.clock.now() + chrono::TimeDelta::hours(1);
    let said = json!({
        "previous_agent": previous, "task": { "crontab": {}, "end_time": end.to_rfc3339(), "enabled": false },
    });
    let id = app.agent(&mentor, said).await["id"].as_i64().unwrap();
    let place = format!("periodic-agents/{id}/");
    app.advance(2 * 3_600).await;
    let refused = app.patch(&place, json!({ "task": { "enabled": true } })).await.ok(400);
    assert_eq!(refused["task"]["end_time"], json!(["The crontab has no tick left before this."]));
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
    let is_once = |document: &Document| matches!(&document.subject, Subject::Agent(agent) if agent.id == AgentId(once));
    let told = document_where(&mut queue, is_once).await;
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
