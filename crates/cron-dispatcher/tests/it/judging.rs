//! The first answer to a run is its result, for the log and for the callback.

use model::document::{Agent, Receiver};
use model::run::{RunReason, RunState};

use crate::harness::{House, agent};

#[tokio::test]
async fn a_result_goes_to_registry_and_deliverer_and_is_forgotten_when_both_hold_it() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "nothing new").await;

    let recorded = house.recorded().await;
    let finished = house.finished().await;
    assert_eq!(recorded, finished);
    let record = &recorded[0];
    assert_eq!((record.state, record.prompt.as_str()), (RunState::Success, "what is new?"));
    assert_eq!(record.result.as_ref().unwrap().output, "nothing new");
    assert!(record.next_fire_time.is_some());

    let id = request.run.id;
    house.hold(Receiver::CallbackDeliverer, vec![id]).await;
    house.hold(Receiver::AgentRegistry, vec![id]).await;
    house.forgotten(id).await;
}

#[tokio::test]
async fn a_later_answer_to_the_same_run_is_dropped() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "first").await;
    house.answer(&request, "second").await;
    house.fail(&request, RunReason::ProviderFailed).await;
    assert_eq!(house.recorded().await[0].result.as_ref().unwrap().output, "first");

    house.advance(60);
    let next = house.requested().await;
    house.answer(&next, "next").await;
    assert_eq!(house.recorded().await[0].run.id, next.run.id, "the later answers were announced");
}

#[tokio::test]
async fn of_answers_that_come_together_each_run_has_its_own_first_one() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in((1..=20).map(|id| agent(id, "*", "*", version)).collect()).await;
    house.advance(60);
    let requests = house.requested_many(20).await;
    house.answer_together(&requests, &["first", "second"]).await;
    let mut recorded = Vec::new();
    while recorded.len() < 20 {
        recorded.extend(house.recorded().await);
    }
    assert!(recorded.iter().all(|record| record.result.as_ref().unwrap().output == "first"), "{recorded:?}");
    let mut ids: Vec<_> = recorded.iter().map(|record| record.run.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn an_agent_without_callback_needs_only_the_registry() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![Agent { endpoint: None, ..agent(7, "*", "*", version) }]).await;
    house.advance(60);
    let request = house.requested().await;
    house.answer(&request, "nothing new").await;
    house.recorded().await;
    house.hold(Receiver::AgentRegistry, vec![request.run.id]).await;
    house.forgotten(request.run.id).await;
}

#[tokio::test]
async fn a_run_that_lasts_is_recorded_as_running_and_then_as_ended() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    house.started(&request).await;
    assert_eq!(house.recorded().await[0].state, RunState::Running);
    house.fail(&request, RunReason::ProviderFailed).await;
    let ended = house.recorded().await.remove(0);
    assert_eq!(ended.state, RunState::Error);
    assert_eq!(ended.result.unwrap().reason, Some(RunReason::ProviderFailed));
}

#[tokio::test]
async fn a_run_that_never_answers_times_out_and_is_called_back() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut impatient = agent(7, "1", "10", version);
    impatient.schedule.timeout = std::time::Duration::from_secs(30);
    house.settle_in(vec![impatient]).await;
    let mut cancels = house.subscribe().await;
    house.advance(60);
    let request = house.requested().await;
    house.started(&request).await;
    house.recorded().await;
    // The run's time-out and the dispatcher's grace; then two looks at empty queues.
    house.advance(41);
    let ended = house.until_finished().await;
    assert_eq!(ended[0].result.as_ref().unwrap().reason, Some(RunReason::TimedOut));
    assert!(cancels.next().await.is_some());

    house.answer(&request, "too late").await;
    house.advance(1);
    house.reached(request.run.id, RunState::Error).await;
}
