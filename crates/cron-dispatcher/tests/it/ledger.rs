//! The ledger finds what is not as promised.

use cron_dispatcher::ledger::Report;

use crate::harness::{House, agent, at};

/// A house in which one tick ran, two were coalesced into the next, and one is planned.
async fn house() -> House {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*/10", "*", version)]).await;
    house.advance(600);
    house.requested().await;
    house.crash().await;
    house.advance(1_800);
    house.crash_and_restart().await;
    house.requested().await;
    house.crash().await;
    house
}

async fn after(statement: &str) -> Report {
    let house = house().await;
    house.assert_ledger_is_clean().await;
    house.execute(statement);
    house.ledger().await
}

#[tokio::test]
async fn what_is_in_order_is_counted_and_nothing_is_found() {
    let report = house().await.ledger().await;
    assert_eq!((report.agents, report.ticks, report.is_clean()), (1, 4, true));
}

#[tokio::test]
async fn a_tick_with_neither_run_nor_reason_is_missing() {
    let report = after("DELETE FROM runs WHERE sequence = 1").await;
    assert_eq!(report.missing.len(), 1, "{report:?}");
    let found = &report.missing[0];
    assert_eq!((found.agent, found.organisation.as_str(), found.tick), (7, "acme", at("2026-01-01T10:10:00Z")));
    assert!(report.double.is_empty() && report.unexplained.is_empty());
    assert_eq!(after("DELETE FROM skipped_ticks").await.missing.len(), 2);
}

#[tokio::test]
async fn a_tick_with_a_run_and_a_reason_is_double() {
    let report =
        after("UPDATE skipped_ticks SET until = (SELECT max(nominal_time) FROM runs) + (until - fire_time)").await;
    assert_eq!(report.double.len(), 1, "{report:?}");
    assert_eq!(report.double[0].tick, at("2026-01-01T10:40:00Z"));
    assert!(report.double[0].what.contains("run") && report.double[0].what.contains("coalesced"), "{report:?}");
}

#[tokio::test]
async fn a_run_at_a_moment_that_is_no_tick_is_unexplained() {
    let report = after("UPDATE schedule_history SET crontab = '*/20 * * * *'").await;
    assert_eq!(report.unexplained.len(), 1, "{report:?}");
    assert_eq!((report.unexplained[0].tick, report.unexplained[0].what.as_str()), (at("2026-01-01T10:10:00Z"), "run"));
}

#[tokio::test]
async fn a_schedule_whose_next_tick_is_not_planned_is_found() {
    let report = after("UPDATE schedules SET next_fire_at = NULL, nominal_at = NULL").await;
    assert_eq!((report.missing.len(), report.missing[0].tick), (1, at("2026-01-01T10:50:00Z")), "{report:?}");
}
