//! A runner that joins is told which runs are to be let go.

use bus::{Message, Subscription};
use model::document::{Agent, Document, Organisation, Pause, Subject};
use model::event::{Event, EventKind, RunCancel, RunnerJoined};
use model::run::RunRequest;
use model::wire::{Wire, decode_event};

use crate::harness::{House, PATIENCE, agent, organisation, versioned};

/// Joins as a runner does, and listens until everything is said. Returns what is.
async fn join(house: &House) -> Vec<(Message, RunCancel)> {
    let mut broadcasts = house.bus.subscribe().await.unwrap();
    let listening = async {
        loop {
            house
                .bus
                .broadcast(Message::new(RunnerJoined::KIND, "test", house.clock.now(), RunnerJoined.encode()))
                .await
                .unwrap();
            // A dispatcher that has just begun may not listen yet.
            let said = tokio::time::timeout(std::time::Duration::from_secs(1), until_complete(&mut broadcasts)).await;
            if let Ok(said) = said {
                return said;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("a dispatcher answers")
}

async fn until_complete(broadcasts: &mut Subscription) -> Vec<(Message, RunCancel)> {
    let mut said = Vec::new();
    loop {
        let message = broadcasts.next().await.expect("an open bus");
        if message.kind != EventKind::RunCancel {
            continue;
        }
        let cancel: RunCancel = decode_event(message.kind, &message.body).unwrap();
        if cancel.complete {
            return said;
        }
        said.push((message, cancel));
    }
}

fn pause(house: &House, paused: bool) -> Document {
    house.advance(1);
    let settings = Organisation { pause: Pause { paused, resumed_with: None }, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

/// A house in which a run of agent 7 is requested.
async fn house() -> (House, RunRequest) {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(60);
    let request = house.requested().await;
    (house, request)
}

#[tokio::test]
async fn what_a_pause_took_back_is_told_to_whoever_joins_until_it_is_requested_anew() {
    let (mut house, request) = house().await;
    assert!(join(&house).await.is_empty(), "what is requested is to run");
    house.apply(vec![pause(&house, true)]).await;
    let paused_at = house.clock.now();
    house.advance(60);
    for _ in 0..2 {
        let said = join(&house).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!((&said[0].1.run_ids[..], said[0].0.time), (&[request.run.id][..], paused_at));
        house.crash_and_restart().await;
    }
    house.apply(vec![pause(&house, false)]).await;
    assert_eq!(house.requested().await.run, request.run);
    assert!(join(&house).await.is_empty());
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_it_began_is_told_to_whoever_joins() {
    let (house, request) = house().await;
    house.cancel(request.run.id).await.unwrap();
    let said = join(&house).await;
    assert_eq!(said.iter().flat_map(|(_, cancel)| &cancel.run_ids).collect::<Vec<_>>(), [&request.run.id]);
    house.advance(2 * 24 * 60 * 60);
    assert!(join(&house).await.is_empty(), "its request is gone for long");
}

#[tokio::test]
async fn a_run_that_has_begun_goes_on_in_a_pause() {
    let (mut house, request) = house().await;
    house.started(&request).await;
    house.recorded().await;
    let paused = Agent { pause: Pause { paused: true, resumed_with: None }, ..agent(7, "1", "10", house.version()) };
    house.apply(vec![versioned("acme", paused, house.version())]).await;
    assert!(join(&house).await.is_empty());
}
