//! What becomes of a tick while an earlier run is not ended.

use model::document::{Agent, OverlapPolicy};
use model::run::{RunReason, SkipReason, TickOutcome, Trigger};

use crate::harness::{House, agent, at, versioned};

fn with(mut agent: Agent, overlap: OverlapPolicy) -> Agent {
    agent.schedule.overlap = overlap;
    agent
}

async fn house_with(overlap: OverlapPolicy) -> House {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![with(agent(7, "*", "*", version), overlap)]).await;
    house
}

#[tokio::test]
async fn by_default_both_run() {
    let mut house = house_with(OverlapPolicy::Allow).await;
    house.advance(60);
    house.requested().await;
    house.advance(60);
    house.requested().await;
}

#[tokio::test]
async fn the_tick_is_skipped_until_the_earlier_run_has_ended() {
    let mut house = house_with(OverlapPolicy::Skip).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    house.advance(60);
    house.assert_nothing_requested().await;
    let until = at("2026-01-01T10:02:00.000001Z");
    assert_eq!(house.ticks(7).await[0].outcome, TickOutcome::Skipped { reason: SkipReason::Overlap, until });
    house.answer(&first, "done").await;
    house.recorded().await;
    house.advance(60);
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:03:00Z"));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn the_newest_tick_waits_for_the_earlier_run_to_end() {
    let mut house = house_with(OverlapPolicy::QueueOne).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    for _ in 0..3 {
        house.advance(60);
        house.assert_nothing_requested().await;
    }
    house.answer(&first, "done").await;
    let next = house.requested().await;
    assert_eq!((next.run.nominal_time, next.run.sequence), (at("2026-01-01T10:04:00Z"), 2));
    assert_eq!((next.run.passed_over, next.run.trigger), (2, Trigger::Schedule));
    let until = at("2026-01-01T10:04:00Z");
    assert_eq!(house.ticks(7).await[1].outcome, TickOutcome::Skipped { reason: SkipReason::Overlap, until });
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_tick_that_waits_is_settled_by_the_policy_that_an_edit_brings() {
    for policy in [OverlapPolicy::Allow, OverlapPolicy::Skip, OverlapPolicy::CancelRunning] {
        let mut house = House::start("2026-01-01T10:00:00Z").await;
        let queueing = with(agent(7, "*", "*", house.version()), OverlapPolicy::QueueOne);
        house.settle_in(vec![queueing.clone()]).await;
        house.advance(60);
        let first = house.requested().await;
        house.started(&first).await;
        house.recorded().await;
        house.advance(60);
        house.assert_nothing_requested().await;

        house.advance(1);
        house.announce(vec![versioned("acme", with(queueing, policy), house.version())]).await;
        if policy == OverlapPolicy::Skip {
            house.assert_nothing_requested().await;
            house.answer(&first, "done").await;
            house.recorded().await;
            house.advance(60);
        }
        let next = house.requested().await.run;
        let minute = if policy == OverlapPolicy::Skip { 3 } else { 2 };
        assert_eq!(next.nominal_time, at(&format!("2026-01-01T10:0{minute}:00Z")), "{policy:?}");
        house.assert_ledger_is_clean().await;
    }
}

#[tokio::test]
async fn the_earlier_run_makes_way() {
    let mut house = house_with(OverlapPolicy::CancelRunning).await;
    house.advance(60);
    let first = house.requested().await;
    house.advance(60);
    let second = house.requested().await;
    assert_eq!(second.run.nominal_time, at("2026-01-01T10:02:00Z"));
    let ended = house.finished().await.remove(0);
    assert_eq!(ended.run.id, first.run.id);
    assert_eq!(ended.result.unwrap().reason, Some(RunReason::Cancelled));
    house.assert_ledger_is_clean().await;
}
