//! Ticks become runs, each once.

use chrono::TimeDelta;
use model::document::{DocumentKind, Schedule, Subject};
use model::event::DocumentChanged;
use model::run::{SkipReason, TickOutcome, Trigger};

use crate::harness::{House, agent, at, document, mentor, organisation};

#[tokio::test]
async fn a_tick_becomes_one_run_with_all_that_a_runner_needs() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*/5", "*", version)]).await;
    house.assert_nothing_requested().await;

    house.advance(300);
    let request = house.requested().await;
    assert_eq!(request.run.agent_id.0, 7);
    assert_eq!(request.run.fire_time, at("2026-01-01T10:05:00Z"));
    assert_eq!(request.run.nominal_time, at("2026-01-01T10:05:00Z"));
    assert_eq!((request.run.trigger, request.run.sequence, request.run.run_attempt), (Trigger::Schedule, 1, 1));
    assert!((1 << 40..1 << 53).contains(&request.run.id.0), "{}", request.run.id);
    assert_eq!((request.prompt.as_str(), request.username.as_str()), ("what is new?", "admin"));
    assert_eq!(request.mentor.name, "Echo");
    house.answer(&request, "nothing").await;
    house.recorded().await;
    house.assert_nothing_requested().await;

    house.advance(300);
    let next = house.requested().await;
    assert_eq!((next.run.fire_time, next.run.sequence), (at("2026-01-01T10:10:00Z"), 2));
    assert!(next.run.id > request.run.id);
}

#[tokio::test]
async fn ticks_missed_while_the_dispatcher_was_down_are_one_run_and_one_span() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.crash().await;
    house.advance(10 * 60 + 1);
    house.crash_and_restart().await;

    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:10:00Z"));
    let ticks = house.ticks(7).await;
    assert_eq!(ticks.len(), 2, "{ticks:?}");
    assert!(matches!(ticks[0].outcome, TickOutcome::Run(_)));
    assert_eq!(ticks[1].fire_time, at("2026-01-01T10:01:00Z"));
    let until = at("2026-01-01T10:10:00Z");
    assert_eq!(ticks[1].outcome, TickOutcome::Skipped { reason: SkipReason::Coalesced, until });
}

#[tokio::test]
async fn a_run_that_was_made_before_a_crash_is_not_made_again_after_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    let first = house.requested().await;
    house.crash_and_restart().await;
    house.assert_nothing_requested().await;

    house.advance(60);
    let second = house.requested().await;
    assert_eq!(second.run.fire_time - first.run.fire_time, TimeDelta::minutes(1));
    assert_eq!(house.ticks(7).await.len(), 2);
}

#[tokio::test]
async fn a_one_off_fires_once_and_says_that_its_timing_is_finished() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let one_off = agent(7, "*", "*", version);
    let one_off = model::document::Agent { schedule: Schedule { one_off: true, ..one_off.schedule }, ..one_off };
    house.settle_in(vec![one_off.clone()]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "done").await;
    assert_eq!(house.recorded().await[0].finished_timing_version, Some(version));
    house.advance(3_600);
    house.assert_nothing_requested().await;

    // Enabled again, it is a new timing with one more run.
    let again = house.version();
    let schedule = Schedule { timing_version: again, ..one_off.schedule };
    house.announce(vec![document("acme", model::document::Agent { schedule, ..one_off })]).await;
    house.advance(60);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T11:02:00Z"));
}

#[tokio::test]
async fn nothing_fires_before_the_start_time() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut later = agent(7, "*", "*", version);
    later.schedule.start_time = Some(at("2026-01-01T10:30:00Z"));
    house.settle_in(vec![later]).await;
    house.advance(29 * 60);
    house.assert_nothing_requested().await;
    house.advance(60);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:30:00Z"));
}

#[tokio::test]
async fn a_disabled_agent_and_one_that_follows_another_do_not_fire() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut disabled = agent(7, "*", "*", version);
    disabled.schedule.enabled = false;
    let mut follower = agent(8, "*", "*", version);
    follower.previous =
        Some(model::document::Previous { agent_id: disabled.id, status: model::run::RunState::Success });
    house.settle_in(vec![disabled, follower]).await;
    house.advance(3_600);
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn the_tick_of_an_agent_whose_mentor_was_deleted_is_skipped_with_that_reason() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    let gone = Subject::MentorDeleted(model::id::MentorId(1));
    house.announce(vec![model::document::Document { subject: gone, version: version + 1, ..mentor("acme", 0) }]).await;
    house.advance(60);
    house.assert_nothing_requested().await;
    let until = at("2026-01-01T10:01:00.000001Z");
    assert_eq!(house.ticks(7).await[0].outcome, TickOutcome::Skipped { reason: SkipReason::MentorDeleted, until });
}

#[tokio::test]
async fn an_agent_that_comes_before_its_mentor_is_not_held_and_fires_once_both_have_come() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let early = document("acme", agent(7, "*", "*", version));
    house.publish(&DocumentChanged { documents: vec![early.clone()] }).await;
    // Of the agent nothing is said: it leans on what is not held yet.
    let held = house.announce(vec![mentor("acme", version)]).await;
    assert_eq!(held.documents.iter().map(|one| one.kind).collect::<Vec<_>>(), [DocumentKind::Mentor]);

    let held = house.announce(vec![early, organisation("acme", version)]).await;
    assert_eq!(held.documents.len(), 2);
    assert_eq!(held.documents[1].next_fire_time, Some(at("2026-01-01T10:01:00Z")));
    house.advance(60);
    house.requested().await;
}

#[tokio::test]
async fn an_organisations_zone_is_that_of_crontabs_without_one() {
    let mut house = House::start("2026-07-01T00:00:00Z").await;
    let version = house.version();
    let berlin = model::document::Organisation { timezone: chrono_tz::Europe::Berlin, ..Default::default() };
    let settings = Subject::Organisation(berlin);
    let mut documents = vec![organisation("acme", version), mentor("acme", version)];
    documents[0].subject = settings;
    documents.push(document("acme", agent(7, "0", "9", version)));
    let held = house.announce(documents).await;
    assert_eq!(held.documents[2].next_fire_time, Some(at("2026-07-01T07:00:00Z")));
}

#[tokio::test]
async fn one_schedule_that_cannot_be_fired_takes_no_neighbour_with_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version), agent(8, "*", "*", version), agent(9, "*", "*", version)]).await;
    house.damage(8);
    for _ in 0..2 {
        house.advance(60);
        let mut fired: Vec<i64> = Vec::new();
        for request in house.requested_many(2).await {
            fired.push(request.run.agent_id.0);
            house.answer(&request, "done").await;
            house.reached(request.run.id, model::run::RunState::Success).await;
        }
        fired.sort_unstable();
        assert_eq!(fired, [7, 9]);
    }
}
