//! One-offs: no later tick makes up for theirs.

use cron_dispatcher::DispatcherConfig;
use model::document::{Agent, Document, Organisation, OverlapPolicy, Schedule, Subject};
use model::id::{AgentId, MentorId, OrganisationKey};
use model::run::{RunRequest, ScheduleRecord, SkipReason, TickOutcome};

use serde_json::json;

use crate::harness::{House, agent, at, organisation, versioned};

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

/// Agent 7 has one tick, a minute ago, which waits until the other agents' four runs are fewer.
async fn house_with_one_that_waits() -> House {
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
    house
}

/// Answers the others' runs, and takes the one that comes after them.
async fn requested_after_the_others(house: &mut House) -> RunRequest {
    for _ in 0..4 {
        let request = house.requested().await;
        assert_ne!(request.run.agent_id, AgentId(7));
        house.answer(&request, "done").await;
    }
    house.advance(60);
    house.requested().await
}

#[tokio::test]
async fn one_waits_while_too_many_runs_of_its_organisation_wait() {
    let mut house = house_with_one_that_waits().await;
    let request = requested_after_the_others(&mut house).await;
    assert_eq!((request.run.agent_id, request.run.nominal_time), (AgentId(7), at("2026-01-01T10:02:00Z")));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn one_that_waits_for_room_waits_through_a_pause() {
    let mut house = house_with_one_that_waits().await;
    house.pause_everything(json!({ "paused": true })).await;
    house.advance(60);
    house.until_fired().await;
    assert_eq!(house.some_ticks(7, "&outcome=run").await, []);
    house.pause_everything(json!({ "paused": false })).await;
    let mut request = house.until_requested().await;
    // Those that the pause took back are requested once more.
    while request.run.agent_id != AgentId(7) {
        house.answer(&request, "done").await;
        request = house.until_requested().await;
    }
    assert_eq!((request.run.agent_id, request.run.nominal_time), (AgentId(7), at("2026-01-01T10:02:00Z")));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn one_that_waits_for_room_runs_when_its_organisation_changes_its_zone() {
    let mut house = house_with_one_that_waits().await;
    let settings = Organisation { timezone: chrono_tz::Europe::Berlin, ..Organisation::default() };
    let berlin = Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) };
    house.announce(vec![berlin]).await;
    let request = requested_after_the_others(&mut house).await;
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

#[tokio::test]
async fn the_registry_hears_of_a_finished_one_until_it_has_turned_it_off_even_after_a_crash() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let off = one_off(agent(7, "1", "10", version));
    house.settle_in(vec![off.clone(), one_off(agent(8, "2", "11", version))]).await;
    delete_mentor(&mut house).await;
    house.advance(60);
    let said = house.schedules_recorded().await;
    house.crash_and_restart().await;
    assert_eq!(house.until_schedules_recorded().await, said);
    assert_eq!(house.until_schedules_recorded().await, said);
    let schedule = Schedule { enabled: false, ..off.schedule };
    let version = house.version() + 2;
    house.announce(vec![versioned("acme", Agent { schedule, ..off }, version)]).await;
    house.advance(60 * 60);
    while house.until_schedules_recorded().await[0].agent_id != AgentId(8) {}
    for _ in 0..3 {
        let told: Vec<_> = house.until_schedules_recorded().await.iter().map(|one| one.agent_id).collect();
        assert_eq!(told, [AgentId(8)]);
    }
}

/// A dispatcher of the version before takes an edit by which one begins anew, and does not know who is told of it.
#[tokio::test]
async fn one_that_is_not_finished_any_more_is_not_told_of() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![one_off(agent(7, "1", "10", version)), one_off(agent(8, "1", "10", version))]).await;
    delete_mentor(&mut house).await;
    house.crash().await;
    house.advance(60);
    house.crash_and_restart().await;
    house.until_fired().await;
    house.execute("UPDATE schedules SET finished = FALSE WHERE agent_id = 7");
    // Of both, as they were made; then again and again.
    while house.until_schedules_recorded().await.len() > 1 {}
    for _ in 0..3 {
        let told: Vec<_> = house.until_schedules_recorded().await.iter().map(|one| one.agent_id).collect();
        assert_eq!(told, [AgentId(8)]);
    }
}

#[tokio::test]
async fn the_registry_hears_when_agents_fire_next_by_another_zone() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    house.settle_in(vec![agent(7, "0", "12", house.version())]).await;
    house.advance(60);
    let settings = Organisation { timezone: chrono_tz::Europe::Berlin, ..Organisation::default() };
    let berlin = Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) };
    house.announce(vec![berlin]).await;
    let next_fire_time = Some(at("2026-01-01T11:00:00Z"));
    let expected = ScheduleRecord { agent_id: AgentId(7), next_fire_time, finished_timing_version: None };
    assert_eq!(house.schedules_recorded().await, [expected]);
}
