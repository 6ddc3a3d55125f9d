//! A runner that is asked to stop.

use bus::Depth;

use crate::harness::{KEY_1, World, eventually, key_ring, request};

#[tokio::test]
async fn a_runner_that_stops_takes_nothing_new_and_answers_what_it_has_begun() {
    let world = World::new().await;
    let runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    runner.shutdown.cancel();
    runner.is_not_ready("agent-runner.requests").await;
    world.request(&request(2, "hello")).await;
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 1);
    runner.stop().await;
    world.depth_becomes(Depth { ready: 1, unacknowledged: 0, delayed: 0 }).await;
    assert_eq!(world.model.asked_until_now(), [1]);
}

#[tokio::test]
async fn a_run_that_does_not_end_while_the_runner_stops_goes_back_to_its_queue() {
    let world = World::new().await;
    let runner = world.runner_with(|config| config.runner.drain_seconds = 0, key_ring(KEY_1)).await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    runner.stop().await;
    world.depth_becomes(Depth { ready: 1, unacknowledged: 0, delayed: 0 }).await;
    world.model.is_left_alone().await;

    let _next = world.runner().await;
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 1);
}

#[tokio::test]
async fn a_cancel_is_heard_while_the_runner_stops() {
    let world = World::new().await;
    let runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    runner.shutdown.cancel();
    world.cancel(&[1]).await;
    runner.stop().await;
    eventually("its request is settled", || async { world.depth().await.is_empty() }).await;
}

#[tokio::test]
async fn a_runner_that_stops_while_the_bus_is_away_gives_its_runs_back() {
    let world = World::new().await;
    let runner = world.runner_with(|config| config.runner.drain_seconds = 0, key_ring(KEY_1)).await;
    world.bus.gate.set_away(true);
    world.request(&request(1, "hello")).await;
    runner.is_not_ready("agent-runner.answers").await;
    runner.stop().await;
    eventually("the request is back", || async { world.depth().await.ready == 1 }).await;
}
