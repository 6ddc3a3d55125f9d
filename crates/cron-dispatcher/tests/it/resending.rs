//! What was lost is sent again; what is only late is not.

use std::collections::BTreeMap;

use cron_dispatcher::DispatcherConfig;
use model::document::{Agent, Receiver};
use model::run::RunReason;

use crate::harness::{House, agent, versioned};

#[tokio::test]
async fn a_request_that_vanished_is_sent_again_with_the_same_run() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let lost = house.requested().await;
    let again = house.until_requested().await;
    assert_eq!(again.run, lost.run);
}

#[tokio::test]
async fn a_request_that_waits_in_its_queue_is_not_sent_again() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    house.leave_requests();
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    house.until_waiting(1).await;
    for _ in 0..20 {
        house.advance(10);
        house.look().await;
    }
    house.until_waiting(1).await;
}

#[tokio::test]
async fn a_request_that_is_put_off_is_not_sent_again_for_two_minutes() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    house.put_off_requested().await;
    for _ in 0..12 {
        house.advance(10);
        house.look().await;
    }
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn a_request_that_is_put_off_for_ever_hides_no_lost_one_and_ends_as_lost() {
    let config = DispatcherConfig { lost_requests_max: 2, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version), agent(8, "2", "10", version)]).await;
    house.advance(60);
    house.put_off_requested().await;
    house.advance(60);
    let lost = house.requested().await;
    let mut again = house.until_requested().await;
    while again.run.agent_id != lost.run.agent_id {
        again = house.until_requested().await;
    }
    assert_eq!(again.run, lost.run);
    house.answer(&again, "found").await;
    house.lose_requests();
    // Nobody says that these are held: they come again.
    let mut reasons = BTreeMap::new();
    while reasons.len() < 2 {
        let ended = house.until_finished().await;
        reasons.extend(ended.iter().map(|record| (record.run.agent_id.0, record.result.as_ref().unwrap().reason)));
    }
    assert_eq!(reasons, BTreeMap::from([(7, Some(RunReason::Lost)), (8, None)]));
}

#[tokio::test]
async fn a_run_whose_requests_are_lost_again_and_again_ends_as_lost() {
    let config = DispatcherConfig { lost_requests_max: 2, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let lost = house.requested().await;
    assert_eq!(house.until_requested().await.run, lost.run);
    assert_eq!(house.until_requested().await.run, lost.run);
    let ended = house.until_finished().await;
    assert_eq!(ended[0].result.as_ref().unwrap().reason, Some(RunReason::Lost));
}

#[tokio::test]
async fn a_result_that_nobody_holds_is_announced_again_even_after_a_crash() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "nothing new").await;
    let first = house.finished().await;
    house.recorded().await;
    house.hold(Receiver::AgentRegistry, vec![request.run.id]).await;
    house.crash_and_restart().await;
    assert_eq!(house.until_finished().await, first);
    house.hold(Receiver::CallbackDeliverer, vec![request.run.id]).await;
    house.forgotten(request.run.id).await;
}

#[tokio::test]
async fn a_result_whose_agent_lost_its_endpoint_before_the_deliverer_heard_of_it_still_comes_to_rest() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "nothing new").await;
    let first = house.finished().await;
    house.recorded().await;
    house.hold(Receiver::AgentRegistry, vec![request.run.id]).await;
    let uncalled = Agent { endpoint: None, ..agent(7, "1", "10", version) };
    house.announce(vec![versioned("acme", uncalled, house.version())]).await;
    // What becomes of it is for the deliverer to say.
    assert_eq!(house.until_finished().await[0].run, first[0].run);
    house.hold(Receiver::CallbackDeliverer, vec![request.run.id]).await;
    house.forgotten(request.run.id).await;
}
