//! Messages of an older and of a newer version: in a rolling upgrade both are on the bus.

use bus::{Message, Queue};
use bytes::Bytes;
use model::document::{Document, Organisation, Subject};
use model::event::{DocumentChanged, DocumentsHeld, EventKind, RunsFinished};
use model::id::OrganisationKey;
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

#[tokio::test]
async fn a_document_that_cannot_be_read_takes_no_neighbour_with_it_and_is_held_when_it_can() {
    let stage = Stage::new().await;
    let _running = stage.start().await;
    let mut held = stage.documents_held().await;
    let of = |key: &str, version: i64| Document {
        organisation: OrganisationKey(key.into()),
        version,
        subject: Subject::Organisation(Organisation {
            timezone: "Asia/Tokyo".parse().unwrap(),
            ..Organisation::default()
        }),
    };
    let unreadable = with_new_word(&DocumentChanged { documents: vec![of("acme", 5)] }.encode(), "Asia/Tokyo");
    let readable = DocumentChanged { documents: vec![agent(7, 5, None)] }.encode();
    // Of a repeated field the parts follow each other.
    let both = [unreadable.as_ref(), readable.as_ref()].concat();
    send(&stage, EventKind::DocumentChanged, both.into()).await;
    let keys = |held: DocumentsHeld| held.documents.into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(keys(next_documents_held(&mut held).await), ["7"]);
    send(&stage, EventKind::DocumentChanged, unreadable).await;
    send(&stage, EventKind::DocumentChanged, DocumentChanged { documents: vec![of("acme", 5)] }.encode()).await;
    assert_eq!(keys(next_documents_held(&mut held).await), ["acme"]);
    assert_no_dead_letters(&stage).await;
}
