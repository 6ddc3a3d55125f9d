//! Messages of an older and of a newer version: in a rolling upgrade both are on the bus.

use bus::{Message, Queue};
use model::document::Receiver;
use model::event::{DocumentsHeld, EventKind, RunsHeld, RunsRecorded};
use model::run::{RunReason, RunResult, RunState};
use model::wire::Wire;
use serde_json::json;
use test_kit::{Fields, newer, with_new_word};

use crate::dispatcher_peer::pending_run;
use crate::harness::{World, documents_in};

impl World {
    async fn send(&self, kind: EventKind, body: bytes::Bytes) {
        self.bus.publish(vec![Message::new(kind, "test", self.clock.now(), body)]).await.unwrap();
    }
}

#[tokio::test]
async fn runs_of_an_older_and_of_a_newer_version_are_in_the_log_and_said_to_be_held() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let now = world.clock.now();
    let mut held = world.consume(Queue::CronDispatcherRunsHeld).await;
    let run = Fields::new().number(1, 41).text(2, "acme").number(3, id.unsigned_abs()).text(4, "schedule");
    let run = run.time(5, now).time(6, now).number(7, 1).number(8, 1);
    let older = Fields::new().message(1, &run).text(2, "success").text(3, "P").time(4, now).time(5, now).time(6, now);
    let older = older.message(7, &Fields::new().text(1, "success").text(3, "hi"));
    world.send(EventKind::RunsRecorded, Fields::new().message(1, &older).body()).await;

    let mut failed = pending_run(42, "acme", id, now);
    failed.run.sequence = 2;
    failed.state = RunState::Error;
    (failed.started_at, failed.ended_at) = (Some(now), Some(now));
    failed.result = Some(RunResult { reason: Some(RunReason::ProviderFailed), ..RunResult::default() });
    let recorded = RunsRecorded { runs: vec![failed], schedules: Vec::new() };
    world.send(EventKind::RunsRecorded, with_new_word(&recorded.encode(), "provider_failed")).await;

    app.eventually("periodic-agent-logs/", |page| page["count"] == 2).await;
    let log = app.get("periodic-agent-logs/41/").await.ok(200);
    assert_eq!((&log["status"], &log["agent_output"]), (&json!("success"), &json!("hi")));
    let log = app.get("periodic-agent-logs/42/").await.ok(200);
    assert_eq!((&log["status"], &log["reason"]), (&json!("error"), &json!("unknown")));
    let mut ids = Vec::new();
    while ids.len() < 2 {
        for delivery in held.next_batch(10, usize::MAX).await.unwrap() {
            ids.extend(RunsHeld::decode(&delivery.message.body).unwrap().run_ids.iter().map(|id| id.0));
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(ids, [41, 42]);
    assert_eq!(world.bus.dead_letters(Queue::AgentRegistryRuns, 10).await.unwrap(), []);
}

#[tokio::test]
async fn documents_held_as_an_older_and_as_a_newer_version_says_it_are_not_announced_again() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({})).await;
    let queues = [
        (Receiver::CronDispatcher, Queue::CronDispatcherDocuments),
        (Receiver::CallbackDeliverer, Queue::CallbackDelivererDocuments),
    ];
    for (receiver, queue) in queues {
        let mut queue = world.consume(queue).await;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(documents_in(&mut queue).await);
        }
        // Somebody new holds all of them too, for whom this version does not wait.
        let held = seen.iter().map(|document| model::document::HeldDocument {
            kind: document.kind(),
            key: document.key(),
            version: document.version,
            next_fire_time: None,
        });
        let all = DocumentsHeld { receiver, documents: held.collect(), replanned: Vec::new() };
        world.send(EventKind::DocumentsHeld, with_new_word(&all.encode(), receiver.as_str())).await;
        if receiver == Receiver::CronDispatcher {
            world.send(EventKind::DocumentsHeld, newer(&all.encode())).await;
            continue;
        }
        let one = |document: &model::document::HeldDocument| {
            Fields::new()
                .text(1, document.kind.as_str())
                .text(2, &document.key)
                .number(3, document.version.unsigned_abs())
        };
        let older = all
            .documents
            .iter()
            .fold(Fields::new().text(1, receiver.as_str()), |fields, document| fields.message(2, &one(document)));
        world.send(EventKind::DocumentsHeld, older.body()).await;
    }
    let not_held = "documents WHERE version > dispatcher_held_version OR version > deliverer_held_version";
    world.until_rows(not_held, 0).await;
    assert_eq!(world.bus.dead_letters(Queue::AgentRegistryDocumentsHeld, 10).await.unwrap(), []);
}
