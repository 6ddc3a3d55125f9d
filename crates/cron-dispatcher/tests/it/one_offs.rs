//! One-offs: no later tick makes up for theirs.

use cron_dispatcher::DispatcherConfig;
use model::document::{Agent, Document, OverlapPolicy, Subject};
use model::id::{AgentId, MentorId, OrganisationKey};
use model::run::{ScheduleRecord, SkipReason, TickOutcome};

use crate::harness::{House, agent, at};

fn one_off(mut agent: Agent) -> Agent {
    agent.schedule.one_off = true;
    agent
}

async fn delete_mentor(house: &mut House) {
    let subject = Subject::MentorDeleted(MentorId(1));
    let version = house.version() + 1;
    house.announce(vec![Document { organisation: OrganisationKey("acme".to_owned()), version, subject }]).await;
}

#[tokio::test]
async fn one_that_must_not_overlap_waits_for_the_earlier_run() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let mut agent = one_off(agent(7, "1", "10", house.version()));
    agent.schedule.overlap = OverlapPolicy::Skip;
    house.settle_in(vec![agent]).await;
    assert!((200..300).contains(&house.trigger_status(AgentId(7)).await));
    let first = house.requested().await;
    house.advance(60);
    house.assert_nothing_requested().await;
    house.answer(&first, "done").await;
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:01:00Z"));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn one_waits_while_too_many_runs_of_its_organisation_wait() {
    let config = DispatcherConfig { window: 1, backlog_max: 2, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut agents: Vec<Agent> = (1..=4).map(|id| agent(id, "1", "10", version)).collect();
    agents.push(one_off(agent(7, "2", "10", version)));
    house.settle_in(agents).await;
    house.advance(60);
    house.until_waiting(1).await;
    house.advance(60);
    house.until_fired().await;
    assert_eq!(house.ticks(7).await, []);
    for _ in 0..4 {
        let request = house.requested().await;
        house.answer(&request, "done").await;
    }
    house.advance(60);
    let request = house.requested().await;
    assert_eq!((request.run.agent_id, request.run.nominal_time), (AgentId(7), at("2026-01-01T10:02:00Z")));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn one_whose_tick_comes_to_nothing_is_finished_and_the_registry_hears_of_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![one_off(agent(7, "1", "10", version))]).await;
    delete_mentor(&mut house).await;
    house.advance(60);
    let finished_timing_version = Some(version);
    let expected = ScheduleRecord { agent_id: AgentId(7), next_fire_time: None, finished_timing_version };
    assert_eq!(house.schedules_recorded().await, [expected]);
    let outcome = house.ticks(7).await[0].outcome.clone();
    assert!(matches!(outcome, TickOutcome::Skipped { reason: SkipReason::MentorDeleted, .. }), "{outcome:?}");
}

#[tokio::test]
async fn the_registry_hears_when_an_agent_fires_next_though_its_tick_came_to_no_run() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    house.settle_in(vec![agent(7, "*", "*", house.version())]).await;
    delete_mentor(&mut house).await;
    for minute in ["02", "03"] {
        house.advance(60);
        let next_fire_time = Some(at(&format!("2026-01-01T10:{minute}:00Z")));
        let expected = ScheduleRecord { agent_id: AgentId(7), next_fire_time, finished_timing_version: None };
        assert_eq!(house.schedules_recorded().await, [expected]);
    }
}
