//! Verdicts of the dispatcher's own are given on what is true when they are given, however long the watch looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bus::{Bus, Depth, Message, PublishError, Queue};
use cron_dispatcher::DispatcherConfig;
use model::document::{Agent, CatchUp, Pause};
use model::run::{RunReason, RunState};
use test_kit::{Gate, GatedBus, until};
use tokio::sync::Semaphore;

use crate::harness::{House, PATIENCE, SECOND, agent, versioned};

/// Whoever wants to know how many requests wait has to wait as well, while it is shut. From the second time on, requests
/// that are put off seem to have been taken.
#[derive(Clone)]
struct Slow {
    is_shut: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Self {
        Self { is_shut: Arc::default(), asked: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    /// Moves the clock until the watch has asked so often.
    async fn asked(&self, house: &House, times: usize) {
        let asked = async || {
            house.advance(1);
            tokio::time::sleep(SECOND).await;
            (self.asked.load(Ordering::SeqCst) == times).then_some(())
        };
        until("the watch asks how many requests wait", PATIENCE, asked).await;
    }
}

#[async_trait]
impl Gate for Slow {
    async fn enter(&self, _: &[Message]) -> Result<(), PublishError> {
        Ok(())
    }

    async fn look(&self, queue: Queue) {
        if queue == Queue::AgentRunnerRuns && self.is_shut.load(Ordering::SeqCst) {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answers.acquire().await.expect("an answer").forget();
        }
    }

    fn depth(&self, queue: Queue, inner: Depth) -> Depth {
        let is_taken = queue == Queue::AgentRunnerRuns && self.asked.load(Ordering::SeqCst) >= 2;
        Depth { delayed: if is_taken { 0 } else { inner.delayed }, ..inner }
    }
}

#[tokio::test]
async fn a_run_that_starts_or_is_taken_back_while_the_watch_looks_is_not_lost() {
    let config = DispatcherConfig { lost_requests_max: 1, overdue_ms: 3_600_000, ..DispatcherConfig::default() };
    let slow = Slow::new();
    let gate = slow.clone();
    let wrap = |inner| -> Arc<dyn Bus> { Arc::new(GatedBus { gate, inner }) };
    let mut house = House::with_bus("2026-01-01T10:00:00Z", config, wrap).await;
    let version = house.version();
    let [starting, pausing, silent] = [7, 8, 9].map(|id| agent(id, "1", "10", version));
    house.settle_in(vec![starting, pausing.clone(), silent]).await;
    house.advance(60);
    let mut requests = house.requested_many(3).await;
    requests.sort_by_key(|request| request.run.agent_id);
    // As if all had been sent again, and lost again.
    house.execute("UPDATE runs SET sends = 2");

    slow.is_shut.store(true, Ordering::SeqCst);
    house.advance(3_600);
    slow.asked(&house, 1).await;
    slow.answers.add_permits(1);
    // What is overdue was read before that.
    slow.asked(&house, 2).await;
    house.started(&requests[0]).await;
    house.reached(requests[0].run.id, RunState::Running).await;
    let paused = Pause { paused: true, resumed_with: None };
    house.apply(vec![versioned("acme", Agent { pause: paused, ..pausing.clone() }, house.version())]).await;
    slow.is_shut.store(false, Ordering::SeqCst);
    slow.answers.add_permits(1);

    let ended = house.finished().await;
    let lost: Vec<_> = ended.iter().map(|one| (one.run.id, one.result.as_ref().unwrap().reason)).collect();
    assert_eq!(lost, [(requests[2].run.id, Some(RunReason::Lost))]);
    assert_eq!(house.run(requests[0].run.id).await.unwrap().state, RunState::Running);
    house.advance(1);
    let resumed = Pause { paused: false, resumed_with: Some(CatchUp::None) };
    house.apply(vec![versioned("acme", Agent { pause: resumed, ..pausing }, house.version())]).await;
    assert_eq!(house.until_requested().await.run, requests[1].run);
}

#[tokio::test]
async fn a_request_that_was_put_off_at_the_first_look_and_taken_by_the_second_is_not_lost() {
    let slow = Slow::new();
    let gate = slow.clone();
    let wrap = |inner| -> Arc<dyn Bus> { Arc::new(GatedBus { gate, inner }) };
    let mut house = House::with_bus("2026-01-01T10:00:00Z", DispatcherConfig::default(), wrap).await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    house.put_off_requested().await;
    slow.is_shut.store(true, Ordering::SeqCst);
    for look in 1..=2 {
        slow.asked(&house, look).await;
        slow.answers.add_permits(1);
    }
    // What was to be done after the second look is done before the third.
    slow.asked(&house, 3).await;
    house.until_waiting(0).await;
}
