//! The run log: what the dispatcher records, once and for all, and what it is asked when a log is not finished.

use bus::Queue;
use chrono::TimeDelta;
use model::event::RunsHeld;
use model::run::{RunReason, RunRecord, RunResult, RunState, Usage};
use model::wire::Wire;
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{PATIENCE, World};

fn started(mut record: RunRecord) -> RunRecord {
    record.state = RunState::Running;
    record.started_at = Some(record.requested_at + TimeDelta::milliseconds(250));
    record
}

fn succeeded(record: RunRecord) -> RunRecord {
    let mut record = started(record);
    record.state = RunState::Success;
    record.ended_at = Some(record.requested_at + TimeDelta::seconds(2));
    record.result = Some(RunResult {
        reason: None,
        output: "All is well.".into(),
        log: "asked\nAll is well.".into(),
        usage: Usage { prompt_tokens: 3, completion_tokens: 4 },
        session_id: "session-1".into(),
    });
    record
}

#[tokio::test]
async fn a_log_shows_the_fields_of_the_original_and_ours() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let mut record = pending_run(42, "acme", id, world.clock.now());
    record.run.fire_time -= TimeDelta::milliseconds(1_500);
    record.run.nominal_time -= TimeDelta::seconds(60);
    let mut record = succeeded(record);
    record.next_fire_time = Some("2026-11-21T18:00:00Z".parse().unwrap());
    world.record(vec![record]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 1).await;
    let log = app.get("periodic-agent-logs/42/").await.ok(200);
    assert_eq!(
        log,
        json!({
            "id": 42,
            "content": "asked\nAll is well.",
            "status": "success",
            "start_time": "2026-11-21T12:00:00.250000Z",
            "end_time": "2026-11-21T12:00:02Z",
            "created_at": "2026-11-21T12:00:00Z",
            "modified_at": "2026-11-21T12:00:02Z",
            "periodic_agent": id,
            "state": "success",
            "nominal_time": "2026-11-21T11:59:00Z",
            "fire_time": "2026-11-21T11:59:58.500000Z",
            "lateness_ms": 1500,
            "sequence": 1,
            "run_attempt": 1,
            "trigger": "schedule",
            "reason": null,
            "agent_output": "All is well.",
            "prompt": "What is new?",
            "session_id": "session-1",
            "usage": { "prompt_tokens": 3, "completion_tokens": 4 },
        })
    );
    assert_eq!(app.get("periodic-agent-logs/").await.ok(200)["results"], json!([log]));
    let agent = app.get(&format!("periodic-agents/{id}/")).await.ok(200);
    assert_eq!((&agent["next_fire_time"], &agent["last_status"]), (&json!("2026-11-21T18:00:00Z"), &json!("success")));
}

#[tokio::test]
async fn records_may_come_twice_and_in_any_order_and_ended_runs_are_said_to_be_held() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let now = world.clock.now();
    let first = pending_run(7, "acme", id, now);
    let mut failed = succeeded(first.clone());
    failed.state = RunState::Error;
    failed.result = Some(RunResult { reason: Some(RunReason::TimedOut), ..RunResult::default() });

    let mut held = world.consume(Queue::CronDispatcherRunsHeld).await;
    // The verdict comes first, its own past and another verdict after it, all of it twice.
    for _ in 0..2 {
        for record in [succeeded(first.clone()), started(first.clone()), first.clone(), failed.clone()] {
            world.record(vec![record]).await;
        }
    }
    world.record(vec![first.clone(), started(pending_run(8, "acme", id, now))]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 2).await;
    let log = app.get("periodic-agent-logs/7/").await.ok(200);
    assert_eq!(
        (&log["status"], &log["agent_output"], &log["reason"]),
        (&json!("success"), &json!("All is well."), &json!(null))
    );
    assert_eq!(log["content"], "asked\nAll is well.");
    assert_eq!(app.get("periodic-agents/statistics/").await.ok(200)["running_tasks"], 1, "the newest log is run 8");

    let deliveries = held.next_batch(10, usize::MAX).await.unwrap();
    let run_ids: Vec<_> =
        deliveries.iter().flat_map(|delivery| RunsHeld::decode(&delivery.message.body).unwrap().run_ids).collect();
    assert!(run_ids.iter().all(|run| run.0 == 7), "only ended runs are held: {run_ids:?}");
}

#[tokio::test]
async fn an_agents_last_status_is_its_newest_runs_whatever_comes_after_it() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let now = world.clock.now();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app.agent(&mentor, json!({})).await["id"].as_i64().unwrap());
    }
    let failed = |mut record: RunRecord| {
        record.state = RunState::Error;
        record.result = Some(RunResult { reason: Some(RunReason::TimedOut), ..RunResult::default() });
        record
    };
    // Its own past, another verdict, and an older run.
    let said = |older: i64, agent: i64| {
        let newest = pending_run(older + 1, "acme", agent, now);
        let older = failed(succeeded(pending_run(older, "acme", agent, now)));
        vec![succeeded(newest.clone()), started(newest.clone()), failed(succeeded(newest)), older]
    };
    let shows = async |id: i64, status: &str| {
        app.eventually(&format!("periodic-agents/{id}/"), |agent| agent["last_status"] == *status).await;
    };
    let mut later = said(3, ids[1]);
    world.record(vec![later.remove(0)]).await;
    shows(ids[1], "success").await;
    // Together with what comes before it, and when that is stored.
    world.record(said(1, ids[0])).await;
    world.record(later).await;
    // Last, to know that all was heard.
    world.record(vec![started(pending_run(5, "acme", ids[2], now))]).await;
    let last_status = async |id: i64| app.get(&format!("periodic-agents/{id}/")).await.ok(200)["last_status"].clone();
    shows(ids[2], "running").await;
    assert_eq!([last_status(ids[0]).await, last_status(ids[1]).await], ["success", "success"]);

    world.record(vec![started(pending_run(6, "acme", ids[0], now))]).await;
    shows(ids[0], "running").await;
}

#[tokio::test]
async fn the_run_of_an_agent_that_is_gone_is_held_and_not_stored() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    world.record(vec![succeeded(pending_run(7, "acme", 999, world.clock.now()))]).await;
    let mut held = world.consume(Queue::CronDispatcherRunsHeld).await;
    let delivery = held.next_batch(1, usize::MAX).await.unwrap().remove(0);
    assert_eq!(RunsHeld::decode(&delivery.message.body).unwrap().run_ids.len(), 1);
    assert_eq!(app.get("periodic-agent-logs/").await.ok(200)["count"], 0);
}

#[tokio::test]
async fn a_log_that_is_not_finished_is_asked_of_the_dispatcher() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let record = pending_run(7, "acme", id, world.clock.now());
    world.record(vec![record.clone()]).await;
    let stored = app.eventually("periodic-agent-logs/7/", |log| log["id"] == 7).await;
    assert_eq!(
        (&stored["status"], &stored["state"], &stored["end_time"]),
        (&json!("running"), &json!("pending"), &json!(null))
    );

    world.dispatcher.know(succeeded(record));
    assert_eq!(app.get("periodic-agent-logs/7/").await.ok(200)["agent_output"], "All is well.");
    world.dispatcher.set_away(true);
    assert_eq!(app.get("periodic-agent-logs/7/").await.ok(200)["state"], "pending", "the stored row will do");
}

#[tokio::test]
async fn who_is_called_back_finds_the_log_even_before_it_arrived_here() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let now = world.clock.now();
    world.dispatcher.know(succeeded(pending_run(7, "acme", id, now)));
    world.dispatcher.know(succeeded(pending_run(8, "other", id, now)));
    assert_eq!(app.get("periodic-agent-logs/7/").await.ok(200)["status"], "success");
    app.get("periodic-agent-logs/8/").await.ok(404);
    app.get("periodic-agent-logs/9/").await.ok(404);
    world.dispatcher.set_away(true);
    let answer = app.get("periodic-agent-logs/7/").await;
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.ok(503)["code"], "dispatcher_unavailable");
}

#[tokio::test]
async fn text_that_no_database_holds_is_made_to_fit() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let mut record = succeeded(pending_run(7, "acme", id, world.clock.now()));
    record.result.as_mut().unwrap().output = "a\0b".into();
    world.record(vec![record]).await;
    let log = app.eventually("periodic-agent-logs/7/", |log| log["id"] == 7).await;
    assert_eq!(log["agent_output"], "a\u{fffd}b");
}

#[tokio::test]
async fn a_follower_shows_what_the_agent_before_it_put_out_last() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let second = app.agent(&mentor, json!({ "previous_agent": first })).await;
    assert_eq!(second["previous_agent_output"], "");

    let now = world.clock.now();
    let running = started(pending_run(43, "acme", first, now + TimeDelta::seconds(5)));
    world.record(vec![succeeded(pending_run(42, "acme", first, now)), running]).await;
    app.eventually("periodic-agent-logs/", |page| page["count"] == 2).await;
    let place = format!("periodic-agents/{}/", second["id"]);
    assert_eq!(app.get(&place).await.ok(200)["previous_agent_output"], "All is well.");
    assert_eq!(app.patch(&place, json!({})).await.ok(200)["previous_agent_output"], "All is well.");
    assert_eq!(app.get(&format!("periodic-agents/{first}/")).await.ok(200)["previous_agent_output"], "");
}

#[tokio::test]
async fn counts_are_exact_through_all_that_happens_to_logs_and_agents() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let kept = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let gone = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    app.agent(&mentor, json!({})).await;
    let now = world.clock.now();
    let agents = async |running: i64, success: i64| {
        let total = running + success + 1;
        let expected = json!({ "total_tasks": total, "succeeded_tasks": success, "failed_tasks": 0,
                               "running_tasks": running, "pending_tasks": 1 });
        app.eventually("periodic-agents/statistics/", |statistics| *statistics == expected).await;
        for (query, expected) in [("", total), ("?status=running", running), ("?status=success", success)] {
            let page = app.get(&format!("periodic-agents/{query}")).await.ok(200);
            let shown = page["results"].as_array().unwrap().len();
            assert_eq!((&page["count"], json!(shown)), (&json!(expected), json!(expected)));
        }
    };
    let counts = async |running: i64, success: i64| {
        for (query, expected) in [
            ("", running + success),
            ("?status=running", running),
            ("?status=success", success),
            ("?status=success&username=admin@acme.example", success),
            ("?status=error", 0),
            ("?username=nobody", 0),
        ] {
            app.eventually(&format!("periodic-agent-logs/{query}"), |page| page["count"] == expected).await;
            let page = app.get(&format!("periodic-agent-logs/{query}")).await.ok(200);
            assert_eq!(page["results"].as_array().unwrap().len() as i64, expected, "{query}");
        }
    };
    let run = |id: i64| pending_run(id, "acme", if id % 2 == 0 { kept } else { gone }, now);
    world.record((1..=6).map(run).collect()).await;
    counts(6, 0).await;
    agents(2, 0).await;
    // Some start, one ends, and all is said again.
    world.record(vec![started(run(1)), started(run(2)), succeeded(run(3)), succeeded(run(4)), run(5)]).await;
    world.record(vec![succeeded(run(3)), run(4), started(run(1)), succeeded(run(7))]).await;
    counts(4, 3).await;
    agents(1, 1).await;
    // Where each batch adds rows they are merged, and say the same.
    let merged = tokio::time::timeout(PATIENCE, async {
        while world.rows("log_counts") != 3 || world.rows("agent_counts") != 3 {
            app.advance(120).await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    merged.await.expect("counts are not merged");
    counts(4, 3).await;
    agents(1, 1).await;
    app.delete(&format!("periodic-agents/{gone}/")).await.ok(204);
    counts(2, 1).await;
    world.until_rows("logs", 3).await;
    counts(2, 1).await;
    agents(1, 0).await;
    let one = app.get(&format!("periodic-agent-logs/?periodic_agent={kept}&status=running")).await.ok(200);
    assert_eq!(one["count"], 2);
}
