//! A runner that joins learns what is to be let go before it takes its first request.

use std::time::Duration;

use bus::{Bus, Queue};
use model::event::EventKind;

use crate::harness::{World, request, within};

#[tokio::test]
async fn what_was_taken_back_before_a_runner_joined_is_not_begun_by_it() {
    let world = World::new().await;
    world.request(&request(1, "hello")).await;
    world.request(&request(2, "hello")).await;
    let mut broadcasts = world.subscribe().await;
    let dispatcher = async {
        while within("a runner joins", broadcasts.next()).await.unwrap().kind != EventKind::RunnerJoined {}
        world.say(&[1], false).await;
        world.say(&[], true).await;
    };
    let (runner, ()) = tokio::join!(world.runner(), dispatcher);
    assert_eq!(world.answer().await.run_id.0, 2);
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [2]);
    drop(runner);
}

#[tokio::test]
async fn what_was_taken_back_while_it_was_put_off_is_not_begun_by_a_runner_that_joins() {
    let world = World::new().await;
    world.request(&request(1, "hello")).await;
    let mut consumer = world.bus.consume(Queue::AgentRunnerRuns, 1).await.unwrap();
    let request_1 = within("a request", consumer.next_batch(1, usize::MAX)).await.unwrap().remove(0);
    request_1.put_off(Duration::from_millis(500)).await.unwrap();
    drop(consumer);
    let mut broadcasts = world.subscribe().await;
    let dispatcher = async {
        while within("a runner joins", broadcasts.next()).await.unwrap().kind != EventKind::RunnerJoined {}
        world.say(&[1], true).await;
    };
    let (_runner, ()) = tokio::join!(world.runner(), dispatcher);
    world.all_settled().await;
    assert!(world.model.asked_until_now().is_empty());
}

#[tokio::test]
async fn a_runner_that_was_cut_off_asks_what_was_said_meanwhile() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    let mut broadcasts = world.subscribe().await;
    world.bus.gate.reconnect();
    while within("it asks", broadcasts.next()).await.unwrap().kind != EventKind::RunnerJoined {}
    world.say(&[1], true).await;
    world.all_settled().await;
    world.request(&request(2, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 2);
}

#[tokio::test]
async fn without_a_dispatcher_a_runner_begins_all_the_same() {
    let world = World::new().await;
    world.request(&request(1, "hello")).await;
    let _runner = world.runner().await;
    assert_eq!(world.answer().await.run_id.0, 1);
}

#[tokio::test]
async fn where_nothing_waits_nothing_is_asked() {
    let world = World::new().await;
    let mut broadcasts = world.subscribe().await;
    let _runner = world.runner().await;
    world.cancel(&[77]).await;
    assert_eq!(within("a broadcast", broadcasts.next()).await.unwrap().kind, EventKind::RunCancel);
    // Nor later.
    assert!(tokio::time::timeout(Duration::from_millis(50), broadcasts.next()).await.is_err());
}
