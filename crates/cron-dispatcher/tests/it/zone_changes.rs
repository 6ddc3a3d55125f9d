//! An organisation goes by another zone: its schedules follow one after the other, and no tick is lost, repeated or
//! settled by the zone that was.

use chrono_tz::Tz;
use model::document::{Agent, CatchUp, Document, Organisation, Pause, Subject};
use model::run::RunState;

use crate::harness::{House, agent, at, document, organisation, versioned};

fn in_zone(house: &House, timezone: Tz, pause: Pause) -> Document {
    let settings = Organisation { timezone, pause, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

fn until(house: &House, moment: &str) {
    house.clock.advance(at(moment) - house.clock.now());
}

/// The runs that are requested next, by agent and nominal time; answered.
async fn fired(house: &mut House, count: usize) -> Vec<(i64, String)> {
    let mut fired = Vec::new();
    for request in house.requested_many(count).await {
        fired.push((request.run.agent_id.0, request.run.nominal_time.format("%d %H:%M").to_string()));
        house.answer(&request, "done").await;
        house.reached(request.run.id, RunState::Success).await;
    }
    fired.sort_unstable();
    fired
}

fn times(all: &[(i64, &str)]) -> Vec<(i64, String)> {
    all.iter().map(|(id, time)| (*id, (*time).to_owned())).collect()
}

/// A dispatcher that was told of agents 7 and 8, at nine by the zone of their organisation, and is not running.
async fn house_that_rests() -> House {
    let mut house = House::start("2026-07-01T00:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "0", "9", version), agent(8, "0", "9", version)]).await;
    house.crash().await;
    until(&house, "2026-07-01T01:00:00Z");
    house
}

#[tokio::test]
async fn many_schedules_follow_in_pieces_and_a_crash_between_them_loses_and_repeats_nothing() {
    let mut house = House::start("2026-07-01T00:00:00Z").await;
    let version = house.version();
    house.settle_in((1..=450).map(|id| agent(id, "0", "9", version)).collect()).await;
    house.advance(3_600);
    let berlin = in_zone(&house, chrono_tz::Europe::Berlin, Pause::default());
    house.apply(vec![berlin]).await;
    // Wherever the walk has got to.
    house.crash_and_restart().await;
    house.assert_nothing_requested().await;
    until(&house, "2026-07-01T07:00:00Z");
    let mut seen: Vec<_> = Vec::new();
    for request in house.requested_many(450).await {
        seen.push((request.run.agent_id.0, request.run.nominal_time));
    }
    seen.sort_unstable();
    let expected: Vec<_> = (1..=450).map(|id| (id, at("2026-07-01T07:00:00Z"))).collect();
    assert_eq!(seen, expected);
    until(&house, "2026-07-01T09:00:00Z");
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn no_tick_after_the_change_is_settled_by_the_old_zone_before_the_schedule_has_followed() {
    let mut house = house_that_rests().await;
    house.apply(vec![in_zone(&house, chrono_tz::Europe::Berlin, Pause::default())]).await;
    // Nine by the old zone; by the new one that was two hours ago.
    until(&house, "2026-07-01T09:00:00Z");
    house.crash_and_restart().await;
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "01 07:00"), (8, "01 07:00")]));
    house.assert_nothing_requested().await;
    until(&house, "2026-07-02T07:00:00Z");
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "02 07:00"), (8, "02 07:00")]));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_was_due_before_the_change_is_settled_by_the_old_zone() {
    let mut house = house_that_rests().await;
    until(&house, "2026-07-01T09:30:00Z");
    house.apply(vec![in_zone(&house, chrono_tz::Europe::Berlin, Pause::default())]).await;
    until(&house, "2026-07-01T10:00:00Z");
    house.crash_and_restart().await;
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "01 09:00"), (8, "01 09:00")]));
    until(&house, "2026-07-02T07:00:00Z");
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "02 07:00"), (8, "02 07:00")]));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_schedule_follows_each_of_several_changes_in_their_order() {
    let mut house = house_that_rests().await;
    house.apply(vec![in_zone(&house, chrono_tz::Europe::Berlin, Pause::default())]).await;
    until(&house, "2026-07-01T08:00:00Z");
    house.apply(vec![in_zone(&house, chrono_tz::Asia::Tokyo, Pause::default())]).await;
    until(&house, "2026-07-01T10:00:00Z");
    house.crash_and_restart().await;
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "01 07:00"), (8, "01 07:00")]));
    house.assert_nothing_requested().await;
    until(&house, "2026-07-02T00:00:00Z");
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "02 00:00"), (8, "02 00:00")]));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn edits_of_schedules_that_have_not_followed_lose_and_repeat_nothing() {
    let mut house = house_that_rests().await;
    house.apply(vec![in_zone(&house, chrono_tz::Europe::Berlin, Pause::default())]).await;
    until(&house, "2026-07-01T08:00:00Z");
    let version = house.version();
    let renamed =
        Agent { title: "Renamed".into(), ..agent(8, "0", "9", at("2026-07-01T00:00:00Z").timestamp_micros()) };
    let created = agent(9, "0", "11", version);
    house
        .apply(vec![
            document("acme", agent(7, "30", "10", version)),
            versioned("acme", renamed, version),
            document("acme", created),
        ])
        .await;
    house.crash_and_restart().await;
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "01 07:00"), (8, "01 07:00")]));
    until(&house, "2026-07-01T08:30:00Z");
    assert_eq!(fired(&mut house, 1).await, times(&[(7, "01 08:30")]));
    until(&house, "2026-07-01T09:00:00Z");
    assert_eq!(fired(&mut house, 1).await, times(&[(9, "01 09:00")]));
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_pause_before_schedules_have_followed_takes_their_ticks() {
    let mut house = house_that_rests().await;
    let berlin = chrono_tz::Europe::Berlin;
    house.apply(vec![in_zone(&house, berlin, Pause::default())]).await;
    until(&house, "2026-07-01T06:00:00Z");
    house.apply(vec![in_zone(&house, berlin, Pause { paused: true, resumed_with: None })]).await;
    until(&house, "2026-07-01T09:00:00Z");
    house.crash_and_restart().await;
    house.assert_nothing_requested().await;
    house.apply(vec![in_zone(&house, berlin, Pause { paused: false, resumed_with: Some(CatchUp::Latest) })]).await;
    assert_eq!(fired(&mut house, 2).await, times(&[(7, "01 07:00"), (8, "01 07:00")]));
    house.assert_ledger_is_clean().await;
}
