//! While the broker takes nothing, ticks become runs on time all the same.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, Message, PublishError};
use cron_dispatcher::DispatcherConfig;
use model::document::{CallbackOn, OverlapPolicy};
use model::event::EventKind;
use model::run::{SkipReason, TickOutcome, Trigger};
use test_kit::{Gate, GatedBus};
use tokio::sync::watch;

use crate::harness::{House, agent, at};

/// Takes nothing but the word that documents are held while it is shut: whoever publishes waits.
struct Shut {
    is_open: watch::Receiver<bool>,
}

#[async_trait]
impl Gate for Shut {
    async fn enter(&self, messages: &[Message]) -> Result<(), PublishError> {
        if messages.iter().any(|message| message.kind != EventKind::DocumentsHeld) {
            self.is_open.clone().wait_for(|is_open| *is_open).await.expect("it opens");
        }
        Ok(())
    }
}

/// What is not answered or held is not said again: each word comes once.
fn patient() -> DispatcherConfig {
    DispatcherConfig { overdue_ms: 3_600_000, ..DispatcherConfig::default() }
}

async fn house_without_broker() -> (House, watch::Sender<bool>) {
    let (open, is_open) = watch::channel(false);
    let shut = |inner| -> Arc<dyn Bus> { Arc::new(GatedBus { gate: Shut { is_open }, inner }) };
    (House::with_bus("2026-01-01T10:00:00Z", patient(), shut).await, open)
}

/// Lets six minutes pass, each of which is a run of this agent.
async fn six_minutes_fire(house: &House, agent_id: i64) {
    for _ in 0..6 {
        house.advance(60);
        house.until_fired().await;
    }
    let ticks = house.ticks(agent_id).await;
    assert_eq!(ticks.len(), 6, "{ticks:?}");
    assert!(ticks.iter().all(|tick| matches!(tick.outcome, TickOutcome::Run(_))), "{ticks:?}");
}

#[tokio::test]
async fn ticks_become_runs_on_time_while_nothing_can_be_requested() {
    let (mut house, open) = house_without_broker().await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;

    six_minutes_fire(&house, 7).await;

    open.send(true).expect("a dispatcher");
    let mut runs: Vec<_> = house.requested_many(6).await.into_iter().map(|request| request.run).collect();
    runs.sort_by_key(|run| run.sequence);
    for (minute, run) in (1..).zip(&runs) {
        assert_eq!((run.trigger, run.fire_time), (Trigger::Schedule, at(&format!("2026-01-01T10:0{minute}:00Z"))));
    }
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn ticks_become_runs_on_time_while_nobody_can_be_told_of_those_that_are_skipped() {
    let (mut house, open) = house_without_broker().await;
    let version = house.version();
    let mut shy = agent(8, "*", "*", version);
    shy.schedule.overlap = OverlapPolicy::Skip;
    shy.endpoint.as_mut().expect("an endpoint").callback_on = CallbackOn { runs: true, skipped: true };
    house.settle_in(vec![agent(7, "*", "*", version), shy]).await;

    six_minutes_fire(&house, 7).await;

    open.send(true).expect("a dispatcher");
    let mut told = Vec::new();
    while told.len() < 5 {
        told.extend(house.skipped().await);
    }
    let fire_times: Vec<_> = (2..=6).map(|minute| at(&format!("2026-01-01T10:0{minute}:00Z"))).collect();
    assert_eq!(told.iter().map(|tick| tick.fire_time).collect::<Vec<_>>(), fire_times);
    assert!(told.iter().all(|tick| tick.agent_id.0 == 8 && tick.reason == SkipReason::Overlap), "{told:?}");
}
