//! The link to a whole log, followed as soon as the callback that holds it is there: the log may still be on its way here.

use model::run::{RunRecord, RunResult, RunState};
use serde_json::json;
use service_kit::signed_link;

use crate::dispatcher_peer::pending_run;
use crate::harness::{Answer, App, ORG, World};

async fn agent_id(app: &App<'_>) -> i64 {
    app.agent(&app.mentor().await, json!({})).await["id"].as_i64().unwrap()
}

fn running(world: &World, id: i64, organisation: &str, agent_id: i64) -> RunRecord {
    let now = world.clock.now();
    let pending = pending_run(id, organisation, agent_id, now);
    RunRecord { state: RunState::Running, started_at: Some(now), ..pending }
}

fn ended(running: RunRecord, log: &str) -> RunRecord {
    let result = RunResult { log: log.to_owned(), ..RunResult::default() };
    RunRecord { state: RunState::Success, ended_at: running.started_at, result: Some(result), ..running }
}

async fn follow(app: &App<'_>, id: i64) -> Answer {
    let signature = signed_link::sign(&app.world.keys, ORG, id);
    app.send("GET", &format!("/api/callbacks/orgs/{ORG}/logs/{id}/?signature={signature}"), &[], Vec::new()).await
}

#[tokio::test]
async fn a_link_that_is_followed_at_once_leads_to_the_whole_log() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let large = "asked, and answered é".repeat(20_000);
    let [told, begun] = [7, 8].map(|id| running(&world, id, ORG, agent));
    // Of the one nothing is here yet, of the other that it runs.
    world.record(vec![begun.clone()]).await;
    world.until_rows("logs", 1).await;
    for (record, log) in [(told, "short"), (begun, large.as_str())] {
        let id = record.run.id.0;
        world.dispatcher.know(ended(record, log));
        let whole = follow(&app, id).await;
        assert_eq!((whole.status.as_u16(), whole.text.len(), whole.text == log), (200, log.len(), true), "log {id}");
        assert_eq!(whole.headers["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn a_log_that_is_not_to_be_had_yet_is_never_answered_as_an_empty_one() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let [told, begun] = [7, 8].map(|id| running(&world, id, ORG, agent));
    world.record(vec![begun.clone()]).await;
    world.until_rows("logs", 1).await;
    world.dispatcher.know(ended(told.clone(), "told"));
    world.dispatcher.know(ended(begun.clone(), "begun"));
    world.dispatcher.set_away(true);
    for id in [7, 8] {
        let later = follow(&app, id).await;
        assert!(later.headers.contains_key("retry-after"), "log {id}: {} {}", later.status, later.text);
        assert_eq!(later.ok(503)["code"], "dispatcher_unavailable");
    }
    world.dispatcher.set_away(false);
    for (id, log) in [(7, "told"), (8, "begun")] {
        assert_eq!(follow(&app, id).await.text, log);
    }
    // Such links are in no callback: of a run that has not ended, of one that nobody knows, of an agent that is gone.
    world.dispatcher.know(begun);
    world.dispatcher.know(ended(running(&world, 10, ORG, 999), "gone"));
    world.dispatcher.know(ended(running(&world, 11, "other", agent), "another's"));
    for id in [8, 9, 10, 11] {
        follow(&app, id).await.ok(404);
    }
}

#[tokio::test]
async fn who_asks_for_anothers_log_is_refused_before_the_dispatcher_is_asked() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    world.record(vec![running(&world, 7, "other", agent)]).await;
    world.until_rows("logs", 1).await;
    app.get("periodic-agent-logs/7/").await.ok(404);
    follow(&app, 7).await.ok(404);
    assert_eq!(world.dispatcher.asked_runs(), Vec::<i64>::new());
}
