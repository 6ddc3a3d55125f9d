//! What becomes of ticks that were missed.

use std::time::Duration;

use model::document::{Agent, CatchUp};
use model::run::{RunState, SkipReason, TickOutcome, Trigger};

use crate::harness::{House, agent, at, document, organisation};

fn catching_up(mut agent: Agent, catch_up: CatchUp) -> Agent {
    agent.schedule.catch_up = catch_up;
    agent
}

#[tokio::test]
async fn after_downtime_the_newest_runs_or_all_or_none_and_each_knows_what_it_is() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let policies = [(7, CatchUp::Latest), (8, CatchUp::All), (9, CatchUp::None)];
    let agents = policies.map(|(id, policy)| catching_up(agent(id, "*/10", "*", version), policy));
    house.settle_in(agents.to_vec()).await;
    house.crash().await;
    house.advance(35 * 60);
    house.crash_and_restart().await;

    let mut runs = house.requested_many(4).await;
    runs.sort_by_key(|request| (request.run.agent_id, request.run.nominal_time));
    let made: Vec<_> = runs.iter().map(|one| (one.run.agent_id.0, one.run.nominal_time, one.run.passed_over)).collect();
    let times = ["2026-01-01T10:10:00Z", "2026-01-01T10:20:00Z", "2026-01-01T10:30:00Z"].map(at);
    assert_eq!(made, [(7, times[2], 2), (8, times[0], 0), (8, times[1], 0), (8, times[2], 0)]);
    assert!(runs.iter().all(|request| request.run.trigger == Trigger::CatchUp));
    let skipped = &house.ticks(9).await[0];
    assert!(matches!(skipped.outcome, TickOutcome::Skipped { reason: SkipReason::TooLate, .. }), "{skipped:?}");
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_tick_with_jitter_fires_later_and_keeps_its_nominal_time() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut late = agent(7, "5", "10", version);
    late.schedule.jitter = Duration::from_secs(600);
    house.settle_in(vec![late]).await;
    house.advance(300);
    let request = loop {
        house.advance(30);
        if let Ok(request) = tokio::time::timeout(Duration::from_millis(100), house.requested()).await {
            break request;
        }
    };
    assert_eq!(request.run.nominal_time, at("2026-01-01T10:05:00Z"));
    let share = request.run.fire_time - request.run.nominal_time;
    assert!((1..600).contains(&share.num_seconds()), "{share}");
    assert!(house.clock.now() >= request.run.fire_time, "it fired before its time");
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn edits_in_the_second_before_a_tick_and_while_the_dispatcher_is_down_lose_and_repeat_nothing() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*/10", "*", version), agent(8, "*/10", "*", version)]).await;
    house.advance(599);
    house.announce(vec![document("acme", agent(7, "10,40", "*", house.version()))]).await;
    house.advance(1);
    for request in house.requested_many(2).await {
        house.answer(&request, "done").await;
        house.reached(request.run.id, RunState::Success).await;
    }
    house.crash().await;
    // Due at 10:20 and 10:30 under the old timing, then edited, then renamed: all while nobody was there.
    house.advance(25 * 60);
    let edited = agent(8, "*/15", "*", house.version());
    house.advance(15 * 60);
    let renamed = Agent { title: "Renamed".into(), ..edited };
    let renamed = crate::harness::versioned("acme", renamed, house.version());
    // It hears of the edits before it looks for what is due: else they begin where it has got to by then.
    house.apply(vec![renamed]).await;
    house.crash_and_restart().await;
    let mut made: Vec<_> = Vec::new();
    for request in house.requested_many(3).await {
        made.push((request.run.agent_id.0, request.run.nominal_time));
    }
    made.sort();
    let times = ["2026-01-01T10:40:00Z", "2026-01-01T10:30:00Z", "2026-01-01T10:45:00Z"].map(at);
    assert_eq!(made, [(7, times[0]), (8, times[1]), (8, times[2])]);
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_new_zone_of_the_organisation_plans_its_schedules_anew_after_what_was_due() {
    let mut house = House::start("2026-07-01T00:00:00Z").await;
    let version = house.version();
    let mut fixed = agent(8, "0", "9", version);
    fixed.schedule.timezone = Some(chrono_tz::UTC);
    house.settle_in(vec![agent(7, "0", "9", version), fixed]).await;
    house.advance(3_600);
    let mut berlin = organisation("acme", house.version());
    let settings = model::document::Organisation { timezone: chrono_tz::Europe::Berlin, ..Default::default() };
    berlin.subject = model::document::Subject::Organisation(settings);
    house.announce(vec![berlin]).await;
    house.advance(6 * 3_600);
    let request = house.requested().await;
    assert_eq!((request.run.agent_id.0, request.run.nominal_time), (7, at("2026-07-01T07:00:00Z")));
    house.answer(&request, "done").await;
    house.recorded().await;
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_was_planned_with_an_older_time_zone_database_is_planned_anew_and_the_registry_is_told() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "30", "10", version)]).await;
    house.crash().await;
    // As an older edition would have planned it.
    house.execute("UPDATE schedules SET tzdb = '2000a', next_fire_at = NULL, nominal_at = NULL WHERE agent_id = 7");
    house.execute("UPDATE schedule_history SET tzdb = '2000a' WHERE agent_id = 7");
    house.crash_and_restart().await;
    let said: model::event::DocumentsHeld = crate::harness::take(&mut house.queues.held).await;
    let told: Vec<_> = said.replanned.iter().map(|one| (one.organisation.as_str(), one.tzdb.as_str())).collect();
    assert_eq!(told, [("acme", model::crontab::tzdb_version())]);
    house.advance(1_800);
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:30:00Z"));
    house.assert_ledger_is_clean().await;
}
