//! Runs that somebody asked for.

use model::document::Agent;
use model::id::AgentId;
use model::internal::TriggerRequest;
use model::run::{RunState, Trigger};

use crate::harness::{House, agent, at, document, mentor, organisation};

#[tokio::test]
async fn a_trigger_brings_its_documents_along_and_uses_no_tick() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let disabled = agent(7, "*", "*", version);
    let disabled = Agent { schedule: model::document::Schedule { enabled: false, ..disabled.schedule }, ..disabled };
    let asked = TriggerRequest {
        documents: vec![organisation("acme", version), mentor("acme", version), document("acme", disabled)],
        agent_id: AgentId(7),
        prompt: Some("only now".into()),
        nominal_time: Some(at("2025-12-31T00:00:00Z")),
        idempotency_key: String::new(),
    };
    let record = house.trigger(&asked).await.unwrap();
    assert_eq!((record.state, record.run.trigger, record.run.sequence), (RunState::Pending, Trigger::Manual, 1));
    assert_eq!((record.run.fire_time, record.prompt.as_str()), (at("2026-01-01T10:00:00Z"), "only now"));

    let request = house.requested().await;
    assert_eq!((request.run.id, request.prompt.as_str()), (record.run.id, "only now"));
    assert_eq!(request.run.nominal_time, at("2025-12-31T00:00:00Z"));
    assert!(request.announce_start);
    assert_eq!(house.ticks(7).await, []);
    assert_eq!(house.run(record.run.id).await.unwrap().state, RunState::Pending);
}

#[tokio::test]
async fn a_trigger_of_an_unknown_agent_is_not_found() {
    let house = House::start("2026-01-01T10:00:00Z").await;
    let asked = TriggerRequest {
        documents: vec![],
        agent_id: AgentId(7),
        prompt: None,
        nominal_time: None,
        idempotency_key: String::new(),
    };
    assert!(house.trigger(&asked).await.is_none());
    assert!(house.run(model::id::RunId(1)).await.is_none());
}

#[tokio::test]
async fn triggers_and_ticks_share_one_sequence_without_a_gap() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    let asked = TriggerRequest {
        documents: vec![],
        agent_id: AgentId(7),
        prompt: None,
        nominal_time: None,
        idempotency_key: String::new(),
    };
    let mut sequences = vec![house.trigger(&asked).await.unwrap().run.sequence];
    house.requested().await;
    house.advance(60);
    sequences.push(house.requested().await.run.sequence);
    sequences.push(house.trigger(&asked).await.unwrap().run.sequence);
    assert_eq!(sequences, [1, 2, 3]);
}

#[tokio::test]
async fn a_trigger_that_is_repeated_with_its_key_makes_one_run() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    let asked = |key: &str| TriggerRequest {
        documents: vec![],
        agent_id: AgentId(7),
        prompt: None,
        nominal_time: None,
        idempotency_key: key.into(),
    };
    let first = house.trigger(&asked("k")).await.unwrap();
    assert_eq!(house.trigger(&asked("k")).await.unwrap(), first);
    assert_eq!(house.trigger(&asked("other")).await.unwrap().run.sequence, first.run.sequence + 1);
    assert_eq!(house.trigger(&asked("")).await.unwrap().run.sequence, first.run.sequence + 2);
    assert_eq!(house.trigger(&asked("")).await.unwrap().run.sequence, first.run.sequence + 3);
}
