//! The bus or a key is away: nobody's fault.

use bus::{Bus, Depth, Queue};
use model::id::RunId;

use crate::harness::{KEY_1, KEY_2, World, echo, eventually, key_ring, request};

#[tokio::test]
async fn while_the_bus_is_away_answers_wait_and_no_mentor_is_asked_again() {
    let world = World::new().await;
    let runner = world.runner().await;
    world.bus.gate.set_away(true);
    for id in 1..=50 {
        world.request(&request(id, "hello")).await;
    }
    world.model.asked(50).await;
    runner.is_not_ready("agent-runner.answers").await;
    world.bus.gate.set_away(false);
    for _ in 1..=50 {
        world.answer().await;
    }
    runner.is_ready().await;
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now().len(), 50);
    // What gathered meanwhile went out together.
    let published = world.bus.gate.published.lock().unwrap().clone();
    assert_eq!(published.iter().sum::<usize>(), 50);
    assert!(published.len() <= 3, "{published:?}");
}

#[tokio::test]
async fn while_the_bus_is_away_no_more_is_taken_than_there_are_slots() {
    let world = World::new().await;
    let runner = world.runner_with(|config| config.runner.concurrency = 2, key_ring(KEY_1)).await;
    world.bus.gate.set_away(true);
    for id in 1..=5 {
        world.request(&request(id, "hello")).await;
    }
    world.model.asked(2).await;
    runner.is_not_ready("agent-runner.answers").await;
    eventually("three are left", || async { world.depth().await.ready == 3 }).await;
    assert_eq!(world.model.asked_until_now(), [1, 2]);
    world.bus.gate.set_away(false);
    for _ in 1..=5 {
        world.answer().await;
    }
    assert_eq!(world.model.asked_until_now(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_api_key_whose_sealing_key_is_missing_waits_for_it_while_other_runs_go_on() {
    let world = World::new().await;
    let runner = world.runner().await;
    let mut sealed = request(1, "secretly");
    sealed.mentor.provider.sealed_api_key = key_ring(KEY_2).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    world.request(&sealed).await;
    runner.is_not_ready("agent-runner.keys").await;
    world.request(&echo(2, "hello")).await;
    assert_eq!(world.answer().await.run_id.0, 2);
    assert_eq!(world.model.asked_until_now(), [0; 0]);

    let complete = key_ring(&format!("{KEY_1},{KEY_2}"));
    let _other = world.runner_with(|_| {}, complete).await;
    assert_eq!(world.answer().await.result.output, "answer to secretly");
    runner.is_ready().await;
    world.all_settled().await;
}

#[tokio::test]
async fn a_request_whose_key_is_missing_is_put_off_and_its_neighbours_go_on_at_once() {
    let world = World::new().await;
    let mut sealed = request(1, "secretly");
    sealed.mentor.provider.sealed_api_key = key_ring(KEY_2).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    let runner = world.runner().await;
    world.request_all(&[&sealed, &echo(2, "hello"), &echo(3, "hello")]).await;
    let mut answered = [world.answer().await.run_id.0, world.answer().await.run_id.0];
    answered.sort_unstable();
    assert_eq!(answered, [2, 3]);
    // In nobody's hand, and where whoever looks for it can see it.
    world.depth_becomes(Depth { delayed: 1, ..Depth::default() }).await;
    runner.is_not_ready("agent-runner.keys").await;
    runner.stop().await;

    let complete = key_ring(&format!("{KEY_1},{KEY_2}"));
    let _other = world.runner_with(|_| {}, complete).await;
    assert_eq!(world.answer().await.result.output, "answer to secretly");
    world.all_settled().await;
    assert_eq!(world.model.asked_until_now(), [1]);
    assert_eq!(world.bus.dead_letters(Queue::AgentRunnerRuns, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_runner_is_ready_as_soon_as_it_can_open_the_api_key_that_it_could_not() {
    let world = World::new().await;
    let runner = world.runner().await;
    let mut sealed = request(1, "secretly");
    sealed.mentor.provider.sealed_api_key = key_ring(KEY_2).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    world.request(&sealed).await;
    runner.is_not_ready("agent-runner.keys").await;
    sealed.run.id = RunId(2);
    sealed.mentor.provider.sealed_api_key = key_ring(KEY_1).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    world.cancel(&[1]).await;
    world.request(&sealed).await;
    assert_eq!(world.answer().await.run_id.0, 2);
    runner.is_ready().await;
}

#[tokio::test]
async fn a_cancelled_run_needs_no_key() {
    let world = World::new().await;
    let runner = world.runner().await;
    let mut sealed = request(1, "secretly");
    sealed.mentor.provider.sealed_api_key = key_ring(KEY_2).seal(b"sk-123", "mentor:3", "api_key").unwrap();
    world.request(&sealed).await;
    runner.is_not_ready("agent-runner.keys").await;
    world.cancel(&[1]).await;
    eventually("the request is dropped", || async { world.depth().await.is_empty() }).await;
    runner.is_ready().await;
}
