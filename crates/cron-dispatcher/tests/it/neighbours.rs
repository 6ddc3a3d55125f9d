//! Messages of an older and of a newer version, and such as nobody can read: in a rolling upgrade all are on the bus.

use bus::Queue;
use model::document::{Agent, OverlapPolicy, Receiver, Schedule};
use model::event::{DocumentChanged, DocumentsHeld, Event, EventKind, RunsHeld};
use model::run::{RunAnswer, RunReason, RunResult, RunState};
use model::wire::Wire;
use test_kit::{Fields, newer, until, with_new_word};

use crate::harness::{House, PATIENCE, agent, document, mentor, organisation, take};

const DOCUMENTS: EventKind = EventKind::DocumentChanged;

#[tokio::test]
async fn documents_of_an_older_version_are_held_and_fire() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let of = |field, subject: Fields| {
        let document = Fields::new().text(1, "acme").number(2, version.unsigned_abs()).message(field, &subject);
        Fields::new().message(1, &document).body()
    };
    let settings = Fields::new().text(1, "UTC");
    let mentor = Fields::new().number(1, 1).text(3, "Echo").message(5, &Fields::new().text(1, "echo"));
    let every_minute = (1..=5).fold(Fields::new(), |crontab, field| crontab.text(field, "*"));
    let schedule = Fields::new().number(1, version.unsigned_abs()).message(2, &every_minute).number(4, 1);
    let agent = Fields::new().number(1, 7).number(2, 1).text(4, "what is new?").text(5, "admin").message(7, &schedule);
    for body in [of(4, settings), of(5, mentor), of(6, agent)] {
        house.publish_bytes(DOCUMENTS, body).await;
        assert_eq!(take::<DocumentsHeld>(&mut house.queues.held).await.documents[0].version, version);
    }
    house.advance(60);
    let request = house.requested().await;
    assert_eq!((request.run.agent_id.0, request.prompt.as_str()), (7, "what is new?"));
}

#[tokio::test]
async fn a_document_with_fields_and_policies_of_a_newer_version_is_held_and_fires() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.announce(vec![organisation("acme", version), mentor("acme", version)]).await;
    let known = agent(7, "*", "*", version);
    let schedule = Schedule { overlap: OverlapPolicy::CancelRunning, ..known.schedule };
    let known = DocumentChanged { documents: vec![document("acme", Agent { schedule, ..known })] };
    house.publish_bytes(DOCUMENTS, with_new_word(&known.encode(), "cancel_running")).await;
    assert_eq!(take::<DocumentsHeld>(&mut house.queues.held).await.documents[0].key, "7");
    house.advance(60);
    assert_eq!(house.requested().await.run.agent_id.0, 7);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_takes_no_neighbour_with_it_and_is_held_when_it_can() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.announce(vec![organisation("acme", version), mentor("acme", version)]).await;
    let there = |id: i64, zone: &str| {
        let known = agent(id, "*", "*", version);
        let schedule = Schedule { timezone: Some(zone.parse().unwrap()), ..known.schedule };
        document("acme", Agent { schedule, ..known })
    };
    let mut odd = agent(9, "*", "*", version);
    odd.schedule.crontab.minute = "every full moon".into();
    let documents = vec![there(7, "UTC"), there(8, "Asia/Tokyo"), document("acme", odd), there(10, "UTC")];
    let changed = DocumentChanged { documents }.encode();
    // As one that only newer data has.
    house.publish_bytes(DOCUMENTS, with_new_word(&changed, "Asia/Tokyo")).await;
    let keys = |held: DocumentsHeld| held.documents.into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(keys(take(&mut house.queues.held).await), ["7", "10"]);
    // Announced again, alone: it is passed over until it can be read.
    let alone = DocumentChanged { documents: vec![there(8, "Asia/Tokyo")] }.encode();
    house.publish_bytes(DOCUMENTS, with_new_word(&alone, "Asia/Tokyo")).await;
    house.publish_bytes(DOCUMENTS, alone).await;
    assert_eq!(keys(take(&mut house.queues.held).await), ["8"]);
    assert_eq!(house.bus.dead_letters(Queue::CronDispatcherDocuments, 10).await.unwrap(), []);
}

#[tokio::test]
async fn answers_and_holding_of_an_older_and_of_a_newer_version_are_understood() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    let first = house.requested().await;
    let result = Fields::new().text(1, "success").text(3, "hi");
    let now = house.clock.now();
    let answer = Fields::new().number(1, first.run.id.0.unsigned_abs()).number(2, 1).time(3, now).time(4, now);
    house.publish_bytes(EventKind::RunAnswered, answer.message(5, &result).body()).await;
    let ended = house.finished().await.remove(0);
    assert_eq!((ended.state, ended.result.unwrap().output.as_str()), (RunState::Success, "hi"));
    for receiver in [Receiver::AgentRegistry, Receiver::CallbackDeliverer] {
        let held = Fields::new().text(1, receiver.as_str()).number(2, first.run.id.0.unsigned_abs());
        house.publish_bytes(RunsHeld::KIND, held.body()).await;
    }
    house.forgotten(first.run.id).await;

    house.advance(60);
    let second = house.requested().await;
    let result = RunResult { reason: Some(RunReason::ProviderFailed), log: "asked".into(), ..RunResult::default() };
    let (run_id, run_attempt) = (second.run.id, second.run.run_attempt);
    let answer = RunAnswer { run_id, run_attempt, started_at: now, ended_at: now, result };
    house.publish_bytes(EventKind::RunAnswered, with_new_word(&answer.encode(), "provider_failed")).await;
    let result = house.finished().await.remove(0).result.unwrap();
    assert_eq!((result.reason, result.log.as_str()), (Some(RunReason::Unknown), "asked"));
    let held = |receiver| RunsHeld { receiver, run_ids: vec![run_id], ticks: Vec::new() };
    // Somebody new holds it too, for whom this version does not wait.
    let by_another = with_new_word(&held(Receiver::AgentRegistry).encode(), "agent-registry");
    house.publish_bytes(RunsHeld::KIND, by_another).await;
    house.publish_bytes(RunsHeld::KIND, newer(&held(Receiver::AgentRegistry).encode())).await;
    house.publish_bytes(RunsHeld::KIND, newer(&held(Receiver::CallbackDeliverer).encode())).await;
    house.forgotten(run_id).await;
    for queue in [Queue::CronDispatcherAnswers, Queue::CronDispatcherRunsHeld] {
        assert_eq!(house.bus.dead_letters(queue, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_nobody_can_read_is_a_dead_letter_with_its_reason_and_takes_no_neighbour_with_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let good = DocumentChanged { documents: vec![organisation("acme", version)] }.encode();
    for body in [b"\xff\xff\xff".to_vec().into(), good] {
        house.publish_bytes(DOCUMENTS, body).await;
    }
    assert_eq!(take::<DocumentsHeld>(&mut house.queues.held).await.documents[0].key, "acme");
    let queue = Queue::CronDispatcherDocuments;
    let dead = async || house.bus.dead_letters(queue, 10).await.unwrap().pop();
    let letter = until("the message is a dead letter", PATIENCE, dead).await;
    assert!(letter.reason.contains("no DocumentChanged message"), "{}", letter.reason);
    let left = async || house.bus.depth(queue).await.unwrap().is_empty().then_some(());
    until("nothing of it is left in the queue", PATIENCE, left).await;

    // Sent back it is judged anew, and ends where it was.
    assert_eq!(house.bus.requeue_dead_letters(queue).await.unwrap(), 1);
    until("the message is a dead letter again", PATIENCE, dead).await;
}
