//! A run that fails is tried again, as often as its agent says.

use std::num::NonZeroU32;

use cron_dispatcher::DispatcherConfig;
use model::document::Agent;
use model::run::{RunReason, RunState};

use crate::harness::{House, agent};

async fn house_with_attempts(attempts: u32) -> House {
    // However slow the machine is, no request counts as lost.
    let config = DispatcherConfig { lost_requests_max: 1_000_000, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut stubborn: Agent = agent(7, "1", "10", version);
    stubborn.schedule.max_attempts = NonZeroU32::new(attempts).expect("at least one");
    house.settle_in(vec![stubborn]).await;
    house.advance(60);
    house
}

#[tokio::test]
async fn a_failed_run_is_tried_again_with_growing_delays_and_the_last_failure_is_its_result() {
    let mut house = house_with_attempts(3).await;
    let first = house.requested().await;
    house.fail(&first, RunReason::ProviderFailed).await;
    let failed_at = house.clock.now();
    let second = house.until_attempt(2).await;
    assert_eq!(second.run.id, first.run.id);
    let first_delay = house.clock.now() - failed_at;
    house.fail(&second, RunReason::ProviderFailed).await;
    let failed_at = house.clock.now();
    let third = house.until_attempt(3).await;
    let second_delay = house.clock.now() - failed_at;
    assert!(first_delay.num_seconds() >= 10 && second_delay.num_seconds() >= 20, "{first_delay}, {second_delay}");

    house.fail(&second, RunReason::ProviderFailed).await;
    house.fail(&third, RunReason::ProviderFailed).await;
    let ended = house.finished().await.remove(0);
    assert_eq!((ended.run.run_attempt, ended.state), (3, RunState::Error));
    assert_eq!(house.recorded().await.len(), 1, "only the end is recorded");
}

#[tokio::test]
async fn what_cannot_heal_is_not_tried_again() {
    let mut house = house_with_attempts(3).await;
    let first = house.requested().await;
    house.fail(&first, RunReason::NothingToAsk).await;
    assert_eq!(house.finished().await[0].result.as_ref().unwrap().reason, Some(RunReason::NothingToAsk));
}

#[tokio::test]
async fn a_second_attempt_that_succeeds_is_a_success() {
    let mut house = house_with_attempts(2).await;
    let first = house.requested().await;
    house.fail(&first, RunReason::TimedOut).await;
    let second = house.until_attempt(2).await;
    house.answer(&second, "at last").await;
    let ended = house.finished().await.remove(0);
    assert_eq!((ended.state, ended.result.unwrap().output.as_str()), (RunState::Success, "at last"));
}
