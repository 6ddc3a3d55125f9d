//! Skipped ticks: who hears of them, and which are listed.

use std::num::NonZeroU32;

use cron_dispatcher::DispatcherConfig;
use model::document::{Agent, CallbackOn, OverlapPolicy};
use model::run::{SkipReason, TickOutcome};

use crate::harness::{House, agent, at};

#[tokio::test]
async fn an_agent_that_asks_for_it_is_told_of_skipped_ticks_until_the_deliverer_holds_them() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut curious = agent(7, "1,2", "10", version);
    curious.schedule.overlap = OverlapPolicy::Skip;
    curious.endpoint.as_mut().unwrap().callback_on = CallbackOn { runs: false, skipped: true };
    house.settle_in(vec![curious]).await;
    house.advance(60);
    house.requested().await;
    house.advance(60);
    let told = house.skipped().await.remove(0);
    assert_eq!((told.agent_id.0, told.fire_time), (7, at("2026-01-01T10:02:00Z")));
    assert_eq!((told.reason, told.agent_version), (SkipReason::Overlap, Some(version)));
    assert_eq!(house.until_skipped().await, std::slice::from_ref(&told), "it is told again");
    house.hold_tick(&told).await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn ticks_are_listed_by_outcome_and_time() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut shy = agent(7, "*", "*", version);
    shy.schedule.overlap = OverlapPolicy::Skip;
    house.settle_in(vec![shy]).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    for _ in 0..2 {
        house.advance(60);
        house.assert_nothing_requested().await;
    }
    assert_eq!(house.ticks(7).await.len(), 3);
    let ran = house.some_ticks(7, "&outcome=run").await;
    assert!(ran.len() == 1 && matches!(ran[0].outcome, TickOutcome::Run(_)), "{ran:?}");
    assert_eq!(house.some_ticks(7, "&outcome=skipped").await.len(), 2);
    assert_eq!(house.some_ticks(7, "&outcome=run,skipped&from=2026-01-01T10:02:30Z").await.len(), 1);
    assert_eq!(house.some_ticks(7, "&to=2026-01-01T10:02:00Z").await.len(), 1);
}

#[tokio::test]
async fn what_waits_for_an_agents_own_limit_is_backlog_as_well() {
    let config = DispatcherConfig { backlog_max: 3, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let narrow = Agent { runs_in_flight_max: NonZeroU32::new(1), ..agent(7, "*", "*", house.version()) };
    house.settle_in(vec![narrow]).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    for _ in 0..4 {
        house.advance(60);
        house.assert_nothing_requested().await;
    }
    let ticks = house.ticks(7).await;
    assert_eq!(ticks.len(), 5, "{ticks:?}");
    assert!(matches!(ticks[0].outcome, TickOutcome::Skipped { reason: SkipReason::Backlog, .. }), "{ticks:?}");
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_is_queued_and_what_waits_for_a_limit_are_one_backlog() {
    let usual = DispatcherConfig { overdue_ms: 3_600_000, ..DispatcherConfig::default() };
    let mut house =
        House::with_config("2026-01-01T10:00:00Z", DispatcherConfig { window: 1, backlog_max: 3, ..usual }).await;
    let version = house.version();
    let narrow = Agent { runs_in_flight_max: NonZeroU32::new(1), ..agent(7, "1-3", "10", version) };
    let mut agents = vec![narrow, agent(11, "5", "10", version)];
    agents.extend((8..=10).map(|id| agent(id, "4", "10", version)));
    house.settle_in(agents).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    for _ in 0..2 {
        house.advance(60);
        house.assert_nothing_requested().await;
    }
    house.advance(60);
    house.requested().await;
    house.advance(60);
    house.until_fired().await;
    let ticks = house.ticks(11).await;
    assert!(matches!(ticks[0].outcome, TickOutcome::Skipped { reason: SkipReason::Backlog, .. }), "{ticks:?}");
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn ticks_beyond_the_backlog_of_an_organisation_are_skipped_with_that_reason() {
    let config = DispatcherConfig { window: 2, backlog_max: 3, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    house.settle_in((1..=10).map(|id| agent(id, "*", "*", version)).collect()).await;
    house.advance(60);
    house.until_waiting(2).await;
    house.advance(60);
    house.look().await;
    house.until_fired().await;
    let ticks = house.ticks(10).await;
    assert_eq!(ticks.len(), 2, "{ticks:?}");
    assert!(matches!(ticks[0].outcome, TickOutcome::Skipped { reason: SkipReason::Backlog, .. }), "{ticks:?}");
    house.assert_ledger_is_clean().await;
}
