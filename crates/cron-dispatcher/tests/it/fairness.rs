//! One organisation's flood does not delay another's few.

use std::num::NonZeroU32;

use cron_dispatcher::DispatcherConfig;
use model::document::Agent;
use model::run::{RunReason, RunRequest, TickOutcome};

use crate::harness::{House, agent, document, mentor, organisation};

#[tokio::test]
async fn the_window_is_never_exceeded_and_serves_organisations_in_turn() {
    let config = DispatcherConfig { window: 10, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut documents = vec![organisation("large", version), organisation("small", version), mentor("large", version)];
    documents.extend((1..=200).map(|id| document("large", agent(id, "1", "10", version))));
    documents.extend((201..=203).map(|id| document("small", agent(id, "1", "10", version))));
    house.announce(documents).await;
    house.advance(60);

    let mut served = Vec::new();
    for round in 0..20 {
        let window = house.requested_many(10).await;
        house.assert_window_is_full().await;
        for request in &window {
            house.answer(request, "done").await;
        }
        served.extend(window.into_iter().map(|request| (round, request.run.organisation.0)));
    }
    let last_small = served.iter().filter(|(_, organisation)| organisation == "small").map(|(round, _)| *round).max();
    assert_eq!(last_small, Some(0), "the small organisation waited behind the large one");
}

#[tokio::test]
async fn of_those_due_at_one_instant_each_organisations_first_fire_first() {
    let config = DispatcherConfig { fire_batch: 10, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut documents = vec![organisation("large", version), organisation("small", version), mentor("large", version)];
    documents.extend((1..=100).map(|id| document("large", agent(id, "1", "10", version))));
    documents.extend((101..=103).map(|id| document("small", agent(id, "1", "10", version))));
    house.announce(documents).await;
    house.advance(60);

    let requested = house.requested_many(103).await;
    let places = requested.iter().enumerate().filter(|(_, request)| request.run.organisation.0 == "small");
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(places.len() == 3 && places.iter().all(|place| *place < 10), "the small organisation waited: {places:?}");
}

/// Agent 10 of another organisation has five turns, one after the other, and another run that takes the only place.
async fn another_has_its_turns(house: &mut House) -> RunRequest {
    for _ in 0..5 {
        house.advance(60);
        let request = house.requested().await;
        assert_eq!(request.run.agent_id.0, 10);
        house.answer(&request, "done").await;
        house.finished().await;
    }
    house.advance(60);
    house.requested().await
}

/// A house with one place in its window, and agent 10.
async fn narrow_house(agents: Vec<Agent>) -> House {
    // What is not answered is not sent again.
    let usual = DispatcherConfig { overdue_ms: 3_600_000, ..DispatcherConfig::default() };
    let config = DispatcherConfig { window: 1, backlog_max: 3, retry_delay_seconds: 600, ..usual };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut documents = vec![organisation("old", version), organisation("other", version), mentor("old", version)];
    documents.extend(agents.into_iter().map(|agent| document("old", agent)));
    documents.push(document("other", agent(10, "3-8,12", "10", version)));
    house.announce(documents).await;
    house
}

async fn assert_the_other_still_runs(house: &House) {
    house.advance(60 * 4);
    house.until_fired().await;
    let ticks = house.ticks(10).await;
    assert_eq!(ticks.len(), 7, "{ticks:?}");
    assert!(ticks.iter().all(|tick| matches!(tick.outcome, TickOutcome::Run(_))), "{ticks:?}");
}

#[tokio::test]
async fn what_comes_back_from_a_limit_does_not_bring_back_the_turns_of_then() {
    let version = model::document::next_version(0, crate::harness::at("2026-01-01T10:00:00Z"));
    let alone = |id| Agent { runs_in_flight_max: NonZeroU32::new(1), ..agent(id, "1,2", "10", version) };
    let mut house = narrow_house(vec![alone(1), alone(2)]).await;
    house.advance(60);
    let mut first = Vec::new();
    for _ in 0..2 {
        let request = house.requested().await;
        house.started(&request).await;
        house.recorded().await;
        first.push(request);
    }
    house.advance(60);
    house.assert_nothing_requested().await;
    let in_the_window = another_has_its_turns(&mut house).await;
    for request in &first {
        house.answer(request, "done").await;
        house.finished().await;
    }
    // Both may go on now, and one of them has no place yet.
    house.answer(&in_the_window, "done").await;
    assert_ne!(house.requested().await.run.agent_id.0, 10);
    assert_the_other_still_runs(&house).await;
}

#[tokio::test]
async fn what_is_tried_again_does_not_bring_back_the_turns_of_then() {
    let version = model::document::next_version(0, crate::harness::at("2026-01-01T10:00:00Z"));
    let stubborn = |id| {
        let mut agent = agent(id, "1", "10", version);
        agent.schedule.max_attempts = NonZeroU32::new(2).unwrap();
        agent
    };
    let mut house = narrow_house(vec![stubborn(1), stubborn(2)]).await;
    house.advance(60);
    for _ in 0..2 {
        let request = house.requested().await;
        house.fail(&request, RunReason::ProviderFailed).await;
    }
    house.assert_nothing_requested().await;
    house.advance(60);
    let in_the_window = another_has_its_turns(&mut house).await;
    house.advance(180);
    // Both may be tried again now, and one of them has no place yet.
    house.answer(&in_the_window, "done").await;
    assert_ne!(house.requested().await.run.agent_id.0, 10);
    assert_the_other_still_runs(&house).await;
}
