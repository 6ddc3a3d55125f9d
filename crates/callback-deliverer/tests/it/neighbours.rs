//! Messages of an older and of a newer version: in a rolling upgrade both are on the bus.

use bus::{Message, Queue};
use bytes::Bytes;
use model::event::{DocumentChanged, EventKind, RunsFinished};
use model::run::{RunReason, RunResult, RunState};
use model::wire::Wire;
use test_kit::{Fields, newer, with_new_word};

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, agent, next_documents_held, next_held, noon, run};

async fn send(stage: &Stage, kind: EventKind, body: Bytes) {
    stage.bus.publish(vec![Message::new(kind, "test", noon(), body)]).await.unwrap();
}

async fn assert_no_dead_letters(stage: &Stage) {
    for queue in [Queue::CallbackDelivererDocuments, Queue::CallbackDelivererRuns] {
        assert_eq!(stage.bus.dead_letters(queue, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_endpoint_and_a_result_of_an_older_version_are_held_and_delivered() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let (mut documents, mut runs) = (stage.documents_held().await, stage.runs_held().await);
    let schedule = Fields::new().number(1, 1).message(2, &Fields::new()).number(4, 1);
    let subject = Fields::new().number(1, 7).number(2, 1).message(7, &schedule);
    let subject = subject.message(8, &Fields::new().text(1, &receiver.url));
    let document = Fields::new().text(1, "acme").number(2, 5).message(6, &subject);
    send(&stage, EventKind::DocumentChanged, Fields::new().message(1, &document).body()).await;
    assert_eq!(next_documents_held(&mut documents).await.documents[0].version, 5);

    let made = Fields::new().number(1, 41).text(2, "acme").number(3, 7).text(4, "schedule").time(5, noon());
    let record = Fields::new().message(1, &made.time(6, noon()).number(7, 1).number(8, 1)).text(2, "success");
    let record = record.text(3, "Good morning").time(4, noon()).time(5, noon()).time(6, noon());
    let record = record.message(7, &Fields::new().text(1, "success").text(3, "hi"));
    send(&stage, EventKind::RunsFinished, Fields::new().message(1, &record).body()).await;
    assert_eq!(next_held(&mut runs).await.run_ids[0].0, 41);
    running.settled(41, "delivered").await;
    assert_no_dead_letters(&stage).await;
}

#[tokio::test]
async fn an_endpoint_and_a_result_with_fields_and_words_of_a_newer_version_are_held_and_delivered() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let (mut documents, mut runs) = (stage.documents_held().await, stage.runs_held().await);
    let endpoint = model::document::Endpoint::new(receiver.url.clone(), Vec::new());
    let changed = DocumentChanged { documents: vec![agent(7, 5, Some(endpoint))] };
    send(&stage, EventKind::DocumentChanged, newer(&changed.encode())).await;
    assert_eq!(next_documents_held(&mut documents).await.documents[0].version, 5);

    let mut failed = run(7, 41);
    failed.state = RunState::Error;
    failed.result = Some(RunResult { reason: Some(RunReason::ProviderFailed), ..RunResult::default() });
    let finished = RunsFinished { runs: vec![failed] };
    send(&stage, EventKind::RunsFinished, with_new_word(&finished.encode(), "provider_failed")).await;
    assert_eq!(next_held(&mut runs).await.run_ids[0].0, 41);
    running.settled(41, "delivered").await;
    assert_no_dead_letters(&stage).await;
}
