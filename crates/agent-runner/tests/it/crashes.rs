//! Requests that come again, and requests that should never have come.

use bus::{Bus, Depth, Message, Queue};
use model::event::EventKind;

use crate::harness::{KEY_1, World, echo, key_ring, request};

#[tokio::test]
async fn a_run_whose_answer_was_not_confirmed_before_a_crash_is_asked_again_and_answered() {
    let world = World::new().await;
    let runner = world.runner().await;
    world.bus.gate.set_away(true);
    world.request(&request(1, "hello")).await;
    world.request(&request(2, "wait")).await;
    world.model.asked(2).await;
    runner.is_not_ready("agent-runner.answers").await;
    runner.crash().await;

    let world = world.reopen().await;
    let _runner = world.runner().await;
    world.model.let_go(1);
    let mut answered = [world.answer().await.run_id.0, world.answer().await.run_id.0];
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    assert_eq!(world.model.asked_until_now().len(), 4);
    world.all_settled().await;
}

#[tokio::test]
async fn a_run_in_flight_that_is_requested_again_is_asked_and_answered_once() {
    let world = World::new().await;
    let _runner = world.runner().await;
    for _ in 0..3 {
        world.request(&request(1, "wait")).await;
    }
    world.model.asked(1).await;
    world.request(&request(2, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 2);
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 1);
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [1, 2]);
}

#[tokio::test]
async fn a_second_run_attempt_is_a_run_of_its_own() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    let mut second = request(1, "hello");
    second.run.run_attempt = 2;
    world.request(&second).await;
    assert_eq!(world.answer().await.run_attempt, 2);
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_attempt, 1);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_dead_letter_and_holds_up_nothing() {
    let world = World::new().await;
    let runner = world.runner().await;
    for body in ["\u{1}nonsense", ""] {
        let poison = Message::new(EventKind::RunRequested, "test", world.clock.now(), body);
        world.bus.publish(vec![poison]).await.unwrap();
    }
    world.request(&echo(1, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 1);
    world.all_settled().await;
    let letters = world.bus.dead_letters(Queue::AgentRunnerRuns, 10).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(reasons[0].starts_with("the bytes are no RunRequested message"), "{reasons:?}");
    assert_eq!(reasons[1..], ["field `run` is missing"]);
    runner.is_ready().await;
}

#[tokio::test]
async fn a_request_that_comes_again_while_its_answer_waits_for_the_bus_is_settled_with_it() {
    let world = World::new().await;
    let runner = world.runner().await;
    world.bus.gate.set_away(true);
    world.request(&request(1, "hello")).await;
    runner.is_not_ready("agent-runner.answers").await;
    world.request(&request(1, "hello")).await;
    world.depth_becomes(Depth { unacknowledged: 2, ..Depth::default() }).await;
    world.request(&request(2, "hello")).await;
    world.model.asked(2).await;
    // Acknowledged before its answer is confirmed, a crash would lose both.
    world.depth_becomes(Depth { unacknowledged: 3, ..Depth::default() }).await;
    world.bus.gate.set_away(false);
    let mut answered = [world.answer().await.run_id.0, world.answer().await.run_id.0];
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [1, 2]);
}

#[tokio::test]
async fn a_request_that_comes_again_is_known_by_a_runner_whose_clock_is_behind() {
    let world = World::new().await;
    world.advance(60_000);
    world.request(&request(1, "hello")).await;
    world.request(&request(1, "hello")).await;
    world.advance(-60_000);
    let _runner = world.runner_with(|config| config.runner.concurrency = 1, key_ring(KEY_1)).await;
    assert_eq!(world.answer().await.run_id.0, 1);
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [1]);
}

#[tokio::test]
async fn a_copy_of_a_request_that_was_answered_meanwhile_is_not_begun() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let first = request(1, "hello");
    world.request(&first).await;
    assert_eq!(world.answer().await.run_id.0, 1);
    // Its message is another, as when the dispatcher sent it again before it heard the answer.
    world.request(&first).await;
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [1]);

    // The next attempt is another, and so is what a dispatcher asks for that has lost the answer.
    let mut second = first.clone();
    second.run.run_attempt = 2;
    world.request(&second).await;
    assert_eq!(world.answer().await.run_attempt, 2);
    world.advance(3_000);
    world.request(&first).await;
    assert_eq!(world.answer().await.run_attempt, 1);
}
