//! While something is paused nothing of it starts; who resumes says what becomes of the ticks in between.

use chrono::TimeDelta;
use model::document::{Agent, CatchUp, Document, Organisation, Pause, Subject};
use model::run::{SkipReason, TickOutcome, Trigger};
use serde_json::json;

use crate::harness::{House, agent, at, organisation, versioned};

const PAUSED: Pause = Pause { paused: true, resumed_with: None };

fn resumed(choice: CatchUp) -> Pause {
    Pause { paused: false, resumed_with: Some(choice) }
}

fn pause_of(house: &House, pause: Pause) -> Document {
    let settings = Organisation { pause, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

#[tokio::test]
async fn the_ticks_of_a_pause_are_one_interval_and_the_newest_runs_if_whoever_resumes_says_so() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let busy = agent(7, "*/10", "*", version);
    house.settle_in(vec![busy.clone()]).await;
    house.advance(60);
    house.apply(vec![versioned("acme", Agent { pause: PAUSED, ..busy.clone() }, house.version())]).await;
    house.advance(34 * 60);
    house.assert_nothing_requested().await;
    let during = house.ticks(7).await;
    let until = house.clock.now();
    assert_eq!(during.len(), 1, "{during:?}");
    assert_eq!(during[0].fire_time, at("2026-01-01T10:10:00Z"));
    assert_eq!(during[0].outcome, TickOutcome::Skipped { reason: SkipReason::Paused, until });
    house.assert_ledger_is_clean().await;

    let again = Agent { pause: resumed(CatchUp::Latest), ..busy };
    house.apply(vec![versioned("acme", again, house.version())]).await;
    let request = house.requested().await;
    assert_eq!((request.run.nominal_time, request.run.passed_over), (at("2026-01-01T10:30:00Z"), 2));
    assert_eq!(request.run.trigger, Trigger::CatchUp);
    let until = at("2026-01-01T10:30:00Z");
    assert_eq!(house.ticks(7).await[1].outcome, TickOutcome::Skipped { reason: SkipReason::Paused, until });
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_paused_organisation_takes_back_what_has_not_started_and_runs_it_after_the_pause() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    let mut broadcasts = house.subscribe().await;
    house.advance(60);
    let taken_back = house.requested().await;
    house.apply(vec![pause_of(&house, PAUSED)]).await;
    let told = broadcasts.next().await.unwrap();
    assert_eq!(told.kind, model::event::EventKind::RunCancel);
    // A start that was on its way does not make it a running one: its runner was told to let go.
    house.started(&taken_back).await;
    house.advance(3_600);
    house.assert_nothing_requested().await;

    house.advance(60);
    house.apply(vec![pause_of(&house, resumed(CatchUp::None))]).await;
    let again = house.requested().await;
    assert_eq!(again.run, taken_back.run);
    house.answer(&again, "done").await;
    house.finished().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_run_that_was_taken_back_is_not_requested_again_before_runners_would_take_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    house.requested().await;
    let paused_at = house.clock.now();
    house.apply(vec![pause_of(&house, PAUSED)]).await;
    house.clock.advance(TimeDelta::milliseconds(100));
    house.apply(vec![pause_of(&house, resumed(CatchUp::Latest))]).await;
    house.assert_nothing_requested().await;
    house.until_requested().await;
    assert!(house.clock.now() - paused_at > TimeDelta::seconds(2));
}

#[tokio::test]
async fn a_pause_of_everything_stops_all_organisations_and_its_note_is_kept() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*/10", "*", version), agent(8, "*/10", "*", version)]).await;
    assert_eq!(house.paused().await["paused"], false);
    let answer = house.pause_everything(json!({"paused": true, "note": "the provider is on fire"})).await;
    assert_eq!((&answer["paused"], &answer["note"]), (&json!(true), &json!("the provider is on fire")));
    house.advance(45 * 60);
    house.look().await;
    house.until_waiting(0).await;
    house.crash_and_restart().await;
    assert_eq!(house.paused().await, answer);
    house.pause_everything(json!({"paused": false, "catch_up": "all"})).await;
    assert_eq!(house.requested_many(8).await.len(), 8);
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn disabled_time_is_one_interval() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let first = agent(7, "*/10", "*", version);
    house.settle_in(vec![first.clone()]).await;
    house.advance(60);
    let mut off = first.clone();
    off.schedule.enabled = false;
    house.announce(vec![versioned("acme", off, house.version())]).await;
    house.advance(3_600);
    let mut on = first;
    on.schedule.timing_version = house.version();
    house.announce(vec![crate::harness::document("acme", on)]).await;
    let ticks = house.ticks(7).await;
    assert_eq!(ticks.len(), 1, "{ticks:?}");
    let until = house.clock.now() + TimeDelta::microseconds(1);
    assert_eq!(ticks[0].outcome, TickOutcome::Skipped { reason: SkipReason::Disabled, until });
    house.assert_ledger_is_clean().await;
}
