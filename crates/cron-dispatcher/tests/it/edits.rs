//! Edits of an agent lose and repeat nothing.

use model::document::{Agent, Document, Schedule, Subject};
use model::id::AgentId;

use crate::harness::{House, agent, at, document, organisation, versioned};

#[tokio::test]
async fn an_edit_of_the_title_leaves_the_next_tick_alone() {
    let mut house = House::start("2026-01-01T10:00:30Z").await;
    let version = house.version();
    let first = agent(7, "*/5", "*", version);
    house.settle_in(vec![first.clone()]).await;
    house.advance(240);
    let renamed = Agent { title: "Renamed".into(), prompt: "and now?".into(), ..first };
    let held = house.announce(vec![versioned("acme", renamed, house.version())]).await;
    assert_eq!(held.documents[0].next_fire_time, Some(at("2026-01-01T10:05:00Z")));
    house.advance(60);
    assert_eq!(house.requested().await.prompt, "and now?");
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn of_versions_that_come_at_the_same_moment_the_newest_is_held() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(1_000, "0", "0", version)]).await;
    for id in 1..=20 {
        let one = agent(id, "0", "0", version);
        let versions = (0..8).map(|later| house.apply(vec![versioned("acme", one.clone(), version + later)]));
        futures::future::join_all(versions).await;
        // It says which one it holds.
        let held = house.apply(vec![versioned("acme", one, version)]).await;
        assert_eq!(held.documents[0].version, version + 7, "agent {id}");
    }
}

#[tokio::test]
async fn versions_that_come_together_are_applied_one_after_the_other() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "0", "23", version)]).await;
    // An agent that is held, and one that is new: both were minutely for a while.
    let minutely = [7, 8].map(|id| document("acme", agent(id, "*", "*", version + 1)));
    house.advance(150);
    let nightly = [7, 8].map(|id| document("acme", agent(id, "0", "23", house.version())));
    house.announce([minutely, nightly].concat()).await;
    let requests = house.requested_many(2).await;
    assert!(requests.iter().all(|one| one.run.nominal_time == at("2026-01-01T10:02:00Z")), "{requests:?}");
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_was_due_under_the_old_timing_is_settled_before_the_new_one_begins() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let first = agent(7, "5", "10", version);
    house.settle_in(vec![first]).await;
    // The dispatcher is down at the tick and at the edit after it.
    house.crash().await;
    house.advance(600);
    let edited = document("acme", agent(7, "30", "10", house.version()));
    house.crash_and_restart_with(vec![edited]).await;
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:05:00Z"));
    house.advance(1_200);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:30:00Z"));
    assert_eq!(house.ticks(7).await.len(), 2);
}

#[tokio::test]
async fn a_new_timing_does_not_fire_again_for_a_moment_that_has_fired() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    house.requested().await;
    // An edit that the registry dated just before that tick, by a clock a little behind.
    let dated = version + 59_000_000;
    house.announce(vec![document("acme", agent(7, "*/1", "*", dated))]).await;
    house.assert_nothing_requested().await;
    house.advance(60);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:02:00Z"));
}

#[tokio::test]
async fn an_older_version_that_comes_late_changes_nothing() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*/5", "*", version + 2)]).await;
    let held = house.announce(vec![document("acme", agent(7, "*", "*", version + 1))]).await;
    assert_eq!(held.documents[0].version, version + 2);
    house.advance(240);
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn disabling_settles_what_was_due_and_enabling_begins_anew() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let first = agent(7, "*", "*", version);
    house.settle_in(vec![first.clone()]).await;
    house.crash().await;
    house.advance(90);
    let off = Agent { schedule: Schedule { enabled: false, ..first.schedule.clone() }, ..first.clone() };
    let off = versioned("acme", off, house.version());
    house.crash_and_restart_with(vec![off]).await;
    let before = house.requested().await;
    assert_eq!(before.run.fire_time, at("2026-01-01T10:01:00Z"));
    house.answer(&before, "done").await;
    house.recorded().await;
    house.advance(600);
    house.assert_nothing_requested().await;

    let on = Agent { schedule: Schedule { timing_version: house.version(), ..first.schedule }, ..first };
    house.announce(vec![document("acme", on)]).await;
    house.assert_nothing_requested().await;
    house.advance(30);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:12:00Z"));
}

#[tokio::test]
async fn a_deleted_agent_fires_no_more_and_a_straggler_does_not_bring_it_back() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let first = agent(7, "*", "*", version);
    house.settle_in(vec![first.clone()]).await;
    let tombstone =
        Document { version: version + 10, subject: Subject::AgentDeleted(AgentId(7)), ..organisation("acme", version) };
    house.announce(vec![tombstone]).await;
    house.announce(vec![document("acme", first)]).await;
    house.advance(600);
    house.assert_nothing_requested().await;
}
