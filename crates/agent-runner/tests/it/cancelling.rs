//! Runs that the dispatcher has judged already.

use crate::harness::{World, eventually, request};

#[tokio::test]
async fn a_cancelled_run_is_stopped_at_once_and_says_nothing() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.request(&request(2, "wait")).await;
    world.model.asked(2).await;
    world.cancel(&[1, 77]).await;
    eventually("its request is settled", || async { world.depth().await.unacknowledged == 1 }).await;
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 2);
    world.model.is_left_alone().await;
    world.all_settled().await;
}

#[tokio::test]
async fn a_request_of_a_cancelled_run_that_arrives_later_is_dropped() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    world.cancel(&[1, 2]).await;
    // The cancel was heard: its first run is gone.
    world.all_settled().await;
    world.request(&request(2, "hello")).await;
    world.request(&request(3, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 3);
    assert_eq!(world.model.asked_until_now(), [1, 3]);
    world.all_settled().await;
}

#[tokio::test]
async fn a_run_that_is_requested_anew_after_it_was_taken_back_runs() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    world.cancel(&[1]).await;
    world.all_settled().await;
    world.advance(60_000);
    world.request(&request(1, "hello")).await;
    assert_eq!(world.answer().await.result.output, "answer to hello");
}
