//! Agents that follow one another: each arrival is taken once.

use model::document::{Agent, Previous, Receiver};
use model::id::AgentId;
use model::run::{RunReason, RunRequest, RunState, Trigger};

use crate::harness::{House, agent, at, document, versioned};

fn follower(id: i64, previous: i64, status: RunState, version: i64) -> Agent {
    let previous = Some(Previous { agent_id: AgentId(previous), status });
    Agent { previous, prompt: format!("{id} heard: {{previous_agent_output}}"), ..agent(id, "*", "*", version) }
}

async fn hold(house: &House, request: &RunRequest) {
    house.hold(Receiver::AgentRegistry, vec![request.run.id]).await;
    house.hold(Receiver::CallbackDeliverer, vec![request.run.id]).await;
}

#[tokio::test]
async fn a_follower_fires_at_once_with_the_output_of_the_run_that_it_follows() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(1, "1", "10", version), follower(2, 1, RunState::Success, version)]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "forty-two").await;
    let second = house.requested().await;
    assert_eq!((second.run.agent_id, second.run.trigger), (AgentId(2), Trigger::Chain));
    assert_eq!(second.prompt, "2 heard: forty-two");
    assert_eq!(second.run.fire_time, at("2026-01-01T10:01:00Z"));
    house.answer(&second, "done").await;
    hold(&house, &first).await;
    house.forgotten(first.run.id).await;
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn a_follower_of_success_does_not_hear_an_error_and_the_other_way_round() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let agents = vec![
        agent(1, "1", "10", version),
        follower(2, 1, RunState::Success, version),
        follower(3, 1, RunState::Error, version),
    ];
    house.settle_in(agents).await;
    house.advance(60);
    let first = house.requested().await;
    house.fail(&first, RunReason::ProviderFailed).await;
    let heard = house.requested().await;
    assert_eq!(heard.run.agent_id, AgentId(3));
    house.answer(&heard, "noted").await;
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn pending_is_reached_when_a_run_is_requested_and_running_when_it_starts_once() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let agents = vec![
        agent(1, "1", "10", version),
        follower(2, 1, RunState::Pending, version),
        follower(3, 1, RunState::Running, version),
    ];
    house.settle_in(agents).await;
    house.advance(60);
    let requests = house.requested_many(2).await;
    let ids: Vec<i64> = requests.iter().map(|request| request.run.agent_id.0).collect();
    assert_eq!(ids, [1, 2]);
    house.started(&requests[0]).await;
    let third = house.requested().await;
    assert_eq!(third.run.agent_id, AgentId(3));
    // Started again by another runner, and answered: no further arrival.
    house.started(&requests[0]).await;
    for request in requests.iter().chain([&third]) {
        house.answer(request, "done").await;
    }
    house.recorded().await;
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn an_answer_implies_the_start_for_those_who_wait_for_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(1, "1", "10", version), follower(2, 1, RunState::Running, version)]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "at once").await;
    assert_eq!(house.requested().await.run.agent_id, AgentId(2));
}

#[tokio::test]
async fn arrivals_before_the_next_allowed_moment_are_one_fire_with_the_newest_output() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut later = follower(2, 1, RunState::Success, version);
    later.schedule.crontab.minute = "5".into();
    house.settle_in(vec![agent(1, "*", "*", version), later]).await;
    let mut older = Vec::new();
    for minute in 1..=4 {
        house.advance(60);
        let request = house.requested().await;
        house.answer(&request, &format!("minute {minute}")).await;
        house.recorded().await;
        hold(&house, &request).await;
        older.push(request.run.id);
    }
    // Only the newest is kept for the follower.
    for id in &older[..3] {
        house.forgotten(*id).await;
    }
    assert!(house.run(older[3]).await.is_some());
    house.advance(60);
    let requests = house.requested_many(2).await;
    let heard = requests.iter().find(|request| request.run.agent_id == AgentId(2)).unwrap();
    assert_eq!(heard.prompt, "2 heard: minute 4");
    assert_eq!(heard.run.fire_time, at("2026-01-01T10:05:00Z"));
    house.forgotten(older[3]).await;
}

#[tokio::test]
async fn a_chain_of_five_goes_through_crashes_with_each_arrival_taken_once() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut agents = vec![agent(1, "1", "10", version)];
    agents.extend((2..=5).map(|id| follower(id, id - 1, RunState::Success, version)));
    house.settle_in(agents).await;
    house.advance(60);
    let mut heard = Vec::new();
    for id in 1..=5 {
        let request = house.requested().await;
        assert_eq!(request.run.agent_id, AgentId(id));
        heard.push(request.prompt.clone());
        house.crash_and_restart().await;
        house.answer(&request, &format!("output {id}")).await;
        // The same answer once more, as after a crash of the runner.
        house.answer(&request, &format!("output {id}, again")).await;
    }
    assert_eq!(heard[4], "5 heard: output 4");
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn fifty_followers_of_one_agent_all_hear_its_output_once_through_a_crash() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut agents = vec![agent(1, "1", "10", version)];
    agents.extend((2..=51).map(|id| follower(id, 1, RunState::Success, version)));
    house.settle_in(agents).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "to all").await;
    house.crash_and_restart().await;
    let requests = house.requested_many(50).await;
    assert!(requests.iter().all(|request| request.prompt.ends_with("heard: to all")));
    let mut ids: Vec<i64> = requests.iter().map(|request| request.run.agent_id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..=51).collect::<Vec<_>>());
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn an_agent_that_no_longer_follows_fires_by_itself_and_lets_go_of_what_it_waited_for() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut waiting = follower(2, 1, RunState::Success, version);
    waiting.schedule.crontab.minute = "30".into();
    house.settle_in(vec![agent(1, "1", "10", version), waiting.clone()]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "unheard").await;
    house.recorded().await;
    hold(&house, &first).await;
    assert!(house.run(first.run.id).await.is_some());

    let mut alone = Agent { previous: None, prompt: "alone".into(), ..waiting };
    alone.schedule.timing_version = house.version();
    house.announce(vec![document("acme", alone)]).await;
    house.forgotten(first.run.id).await;
    house.advance(29 * 60);
    let request = house.requested().await;
    assert_eq!((request.run.trigger, request.prompt.as_str()), (Trigger::Schedule, "alone"));
}

#[tokio::test]
async fn an_edit_of_a_follower_leaves_what_it_waits_for_alone() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut waiting = follower(2, 1, RunState::Success, version);
    waiting.schedule.crontab.minute = "30".into();
    house.settle_in(vec![agent(1, "1", "10", version), waiting.clone()]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "kept").await;
    house.recorded().await;
    let renamed = Agent { title: "Renamed".into(), ..waiting };
    house.announce(vec![versioned("acme", renamed, house.version())]).await;
    house.advance(29 * 60);
    assert_eq!(house.requested().await.prompt, "2 heard: kept");
}

#[tokio::test]
async fn a_prompt_that_names_a_large_output_very_often_is_cut_and_asked() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let greedy =
        Agent { prompt: "{previous_agent_output}".repeat(100_000), ..follower(2, 1, RunState::Success, version) };
    house.settle_in(vec![agent(1, "1", "10", version), greedy]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, &"x".repeat(1 << 20)).await;
    let request = house.requested().await;
    assert!(request.prompt.len() < 5 << 20 && request.prompt.ends_with("bytes cut]"), "{}", request.prompt.len());
}

#[tokio::test]
async fn what_a_follower_passed_over_is_in_order_although_it_was_edited_to_follow_nobody_before_that() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(1, "1", "10", version), follower(2, 1, RunState::Success, version)]).await;
    house.advance(30);
    let edited = document("acme", agent(2, "30", "*", house.version()));
    house.advance(30);
    let first = house.requested().await;
    house.fail(&first, RunReason::ProviderFailed).await;
    house.recorded().await;

    // Only now does the edit arrive.
    house.announce(vec![edited]).await;
    house.advance(29 * 60);
    assert_eq!(house.requested().await.run.fire_time, at("2026-01-01T10:30:00Z"));
    assert_eq!(house.ticks(2).await.last().map(|tick| tick.fire_time), Some(at("2026-01-01T10:01:00Z")));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_one_off_that_follows_fires_once_and_once_more_when_it_is_turned_on_again() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut once = follower(2, 1, RunState::Success, version);
    once.schedule.one_off = true;
    house.settle_in(vec![agent(1, "*", "*", version), once.clone()]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "one").await;
    let second = house.requested().await;
    assert_eq!(second.prompt, "2 heard: one");
    house.answer(&second, "done").await;
    // The registry turns it off, and somebody on again.
    once.schedule.enabled = false;
    house.announce(vec![versioned("acme", once.clone(), house.version())]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "two").await;
    house.recorded().await;
    house.assert_nothing_requested().await;
    once.schedule.enabled = true;
    once.schedule.timing_version = house.version();
    house.announce(vec![document("acme", once)]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "three").await;
    assert_eq!(house.requested().await.prompt, "2 heard: three");
}
