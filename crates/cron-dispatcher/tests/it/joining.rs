//! A runner that joins is told which runs are to be let go.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, Message, PublishError, Subscription};
use chrono::{DateTime, Utc};
use cron_dispatcher::DispatcherConfig;
use futures::FutureExt;
use model::document::{Agent, Document, Organisation, Pause, Subject};
use model::event::{Event, EventKind, RunCancel, RunnerJoined};
use model::id::RunId;
use model::run::{RunReason, RunRequest};
use model::wire::{Wire, decode_event};
use test_kit::{Gate, GatedBus};
use tokio::sync::watch;

use crate::harness::{House, PATIENCE, agent, organisation, versioned};

/// Joins as a runner does, until what is said is this: which runs are to be let go, and since when. What an earlier
/// question is still answered may come in between.
async fn until_told(house: &House, expected: &[(DateTime<Utc>, RunId)]) {
    let mut broadcasts = house.subscribe().await;
    let mut last = BTreeSet::new();
    let asking = async {
        loop {
            let joined = Message::new(RunnerJoined::KIND, "test", house.clock.now(), RunnerJoined.encode());
            house.bus.broadcast(joined).await.expect("it is said");
            // A dispatcher that has just begun may not listen yet.
            let said = tokio::time::timeout(Duration::from_secs(1), until_complete(&mut broadcasts)).await;
            let Ok(said) = said else { continue };
            if said.iter().eq(expected) {
                return;
            }
            last = said;
        }
    };
    let told = tokio::time::timeout(PATIENCE, asking).await;
    assert!(told.is_ok(), "{expected:?} is never told, but {last:?}");
}

async fn until_complete(broadcasts: &mut Subscription) -> BTreeSet<(DateTime<Utc>, RunId)> {
    let mut said = BTreeSet::new();
    loop {
        let message = broadcasts.next().await.expect("an open bus");
        if message.kind != EventKind::RunCancel {
            continue;
        }
        let cancel: RunCancel = decode_event(message.kind, &message.body).expect("a cancel");
        if cancel.complete {
            return said;
        }
        said.extend(cancel.run_ids.into_iter().map(|id| (message.time, id)));
    }
}

fn pause(house: &House, paused: bool) -> Document {
    house.advance(1);
    let settings = Organisation { pause: Pause { paused, resumed_with: None }, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

/// A bus that is away when a test says so, as far as it says itself.
struct Flickering(watch::Receiver<bool>);

#[async_trait]
impl Gate for Flickering {
    async fn enter(&self, _: &[Message]) -> Result<(), PublishError> {
        Ok(())
    }

    fn connected(&self, _: watch::Receiver<bool>) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

/// A house in which a run of agent 7 is requested.
async fn house() -> (House, RunRequest) {
    house_on(|bus| bus).await
}

async fn house_on(wrap: impl FnOnce(Arc<dyn Bus>) -> Arc<dyn Bus>) -> (House, RunRequest) {
    let mut house = House::with_bus("2026-01-01T10:00:00Z", DispatcherConfig::default(), wrap).await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    (house, request)
}

#[tokio::test]
async fn what_a_pause_took_back_is_told_to_whoever_joins_until_it_is_requested_anew() {
    let (mut house, request) = house().await;
    until_told(&house, &[]).await;
    house.apply(vec![pause(&house, true)]).await;
    let paused_at = house.clock.now();
    house.advance(60);
    for _ in 0..2 {
        until_told(&house, &[(paused_at, request.run.id)]).await;
        house.crash_and_restart().await;
    }
    house.apply(vec![pause(&house, false)]).await;
    assert_eq!(house.requested().await.run, request.run);
    until_told(&house, &[]).await;
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_it_began_is_told_to_whoever_joins() {
    let (house, request) = house().await;
    house.cancel(request.run.id).await.unwrap();
    until_told(&house, &[(house.clock.now(), request.run.id)]).await;
    house.advance(2 * 24 * 60 * 60);
    until_told(&house, &[]).await;
}

#[tokio::test]
async fn a_run_that_was_cancelled_while_it_ran_is_told_to_whoever_comes_back() {
    let (mut house, request) = house().await;
    house.started(&request).await;
    house.recorded().await;
    house.cancel(request.run.id).await.unwrap();
    house.advance(60);
    until_told(&house, &[(house.clock.now(), request.run.id)]).await;
    house.advance(2 * 24 * 60 * 60);
    until_told(&house, &[]).await;
}

#[tokio::test]
async fn a_run_whose_request_was_sent_again_is_stopped_when_it_is_answered_and_told_to_whoever_joins() {
    let (mut house, request) = house().await;
    assert_eq!(house.until_requested().await.run, request.run);
    let mut broadcasts = house.subscribe().await;
    house.answer(&request, "nothing new").await;
    until_said(&mut broadcasts, request.run.id).await;
    until_told(&house, &[(house.clock.now(), request.run.id)]).await;
}

#[tokio::test]
async fn a_run_that_failed_after_its_request_was_sent_again_is_stopped_until_its_next_attempt() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let mut stubborn = agent(7, "1", "10", house.version());
    stubborn.schedule.max_attempts = NonZeroU32::new(2).unwrap();
    house.settle_in(vec![stubborn]).await;
    house.advance(60);
    let request = house.requested().await;
    assert_eq!(house.until_requested().await.run, request.run);
    let mut broadcasts = house.subscribe().await;
    house.fail(&request, RunReason::ProviderFailed).await;
    until_said(&mut broadcasts, request.run.id).await;
    until_told(&house, &[(house.clock.now(), request.run.id)]).await;
    house.until_attempt(2).await;
    until_told(&house, &[]).await;
}

#[tokio::test]
async fn a_run_that_ended_as_lost_is_told_to_whoever_joins() {
    let config = DispatcherConfig { lost_requests_max: 0, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    let lost = house.until_finished().await.remove(0);
    assert_eq!(lost.result.and_then(|result| result.reason), Some(RunReason::Lost));
    until_told(&house, &[(house.clock.now(), request.run.id)]).await;
}

#[tokio::test]
async fn a_run_whose_request_was_sent_once_is_not_stopped_when_it_is_answered() {
    let (mut house, request) = house().await;
    let mut broadcasts = house.subscribe().await;
    house.answer(&request, "nothing new").await;
    house.finished().await;
    until_told(&house, &[]).await;
    while let Some(Some(message)) = broadcasts.next().now_or_never() {
        let said = decode_event::<RunCancel>(message.kind, &message.body);
        assert!(said.is_ok_and(|said| said.run_ids.is_empty()) || message.kind != EventKind::RunCancel);
    }
}

/// Waits until this alone is said, by whomever and whenever.
async fn until_said(broadcasts: &mut Subscription, run_id: RunId) {
    let said = async {
        loop {
            let message = broadcasts.next().await.expect("an open bus");
            let said = decode_event::<RunCancel>(message.kind, &message.body);
            if said.is_ok_and(|said| said.run_ids == [run_id]) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("it is said");
}

#[tokio::test]
async fn a_dispatcher_that_died_before_it_was_heard_says_it_again() {
    let (mut house, request) = house().await;
    house.started(&request).await;
    house.recorded().await;
    // Nobody listens yet.
    house.cancel(request.run.id).await.unwrap();
    let mut broadcasts = house.subscribe().await;
    house.crash_and_restart().await;
    until_said(&mut broadcasts, request.run.id).await;
}

#[tokio::test]
async fn a_dispatcher_that_was_cut_off_says_again_what_may_not_have_been_heard() {
    let (link, connected) = watch::channel(true);
    let (mut house, request) = house_on(|inner| Arc::new(GatedBus { gate: Flickering(connected), inner })).await;
    house.started(&request).await;
    house.recorded().await;
    // Nobody listens yet.
    house.cancel(request.run.id).await.unwrap();
    let mut broadcasts = house.subscribe().await;
    link.send(false).expect("a dispatcher");
    link.send(true).expect("a dispatcher");
    until_said(&mut broadcasts, request.run.id).await;
}

#[tokio::test]
async fn a_run_that_has_begun_goes_on_in_a_pause() {
    let (mut house, request) = house().await;
    house.started(&request).await;
    house.recorded().await;
    let paused = Agent { pause: Pause { paused: true, resumed_with: None }, ..agent(7, "1", "10", house.version()) };
    house.apply(vec![versioned("acme", paused, house.version())]).await;
    until_told(&house, &[]).await;
}
