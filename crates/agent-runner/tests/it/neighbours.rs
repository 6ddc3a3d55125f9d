//! Messages of an older and of a newer version, and such as nobody can read: in a rolling upgrade all are on the bus.

use bus::{Bus, Message, Queue};
use bytes::Bytes;
use model::event::{EventKind, RunCancel};
use model::id::RunId;
use model::wire::Wire;
use test_kit::{Fields, newer, with_new_word};

use crate::harness::{World, eventually, request};

async fn send(world: &World, body: Bytes) {
    let message = Message::new(EventKind::RunRequested, "test", world.clock.now(), body);
    world.bus.inner.publish(vec![message]).await.unwrap();
}

#[tokio::test]
async fn requests_of_an_older_and_of_a_newer_version_are_answered() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let now = world.clock.now();
    let run = Fields::new().number(1, 1).text(2, "acme").number(3, 7).text(4, "schedule").time(5, now).time(6, now);
    let mentor = Fields::new().number(1, 3).text(3, "Scout").message(5, &Fields::new().text(1, "model"));
    let older = Fields::new().message(1, &run.number(7, 1).number(8, 1)).message(2, &mentor).text(3, "hello");
    send(&world, older.body()).await;
    let answer = world.answer().await;
    assert_eq!((answer.run_id.0, answer.result.output.as_str()), (1, "answer to hello"));

    send(&world, with_new_word(&request(2, "hello").encode(), "schedule")).await;
    let answer = world.answer().await;
    assert_eq!((answer.run_id.0, answer.result.output.as_str()), (2, "answer to hello"));
    world.all_settled().await;
    assert_eq!(world.bus.dead_letters(Queue::AgentRunnerRuns, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_cancel_of_an_older_and_of_a_newer_version_is_heard() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.request(&request(2, "wait")).await;
    world.model.asked(2).await;
    let older = Fields::new().number(1, 1).body();
    let newer = newer(&RunCancel { run_ids: vec![RunId(2)], complete: false }.encode());
    for body in [older, newer] {
        let message = Message::new(EventKind::RunCancel, "test", world.clock.now(), body);
        world.bus.broadcast(message).await.unwrap();
    }
    world.model.is_left_alone().await;
    world.all_settled().await;
}

#[tokio::test]
async fn a_request_that_nobody_can_read_is_a_dead_letter_and_takes_no_neighbour_with_it() {
    let world = World::new().await;
    let runner = world.runner().await;
    send(&world, Bytes::from_static(b"\xff\xff\xff")).await;
    world.request(&request(2, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 2);
    let dead = || world.bus.dead_letters(Queue::AgentRunnerRuns, 10);
    eventually("it is a dead letter", || async { dead().await.unwrap().len() == 1 }).await;
    assert!(dead().await.unwrap()[0].reason.contains("no RunRequested message"));
    world.all_settled().await;
    assert!(runner.readiness.is_ready());
}
