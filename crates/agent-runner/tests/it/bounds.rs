//! How many runs at once, and how long one may take.

use std::time::Duration;

use bus::Depth;
use chrono::TimeDelta;
use model::run::RunReason;

use crate::harness::{KEY_1, Said, World, key_ring, request};

#[tokio::test]
async fn never_are_more_mentors_asked_at_once_than_there_are_slots() {
    let world = World::new().await;
    let _runner = world.runner_with(|config| config.runner.concurrency = 3, key_ring(KEY_1)).await;
    for id in 1..=10 {
        world.request(&request(id, "wait")).await;
    }
    world.model.asked(3).await;
    // What has no slot is not taken, so that other runners can have it.
    world.depth_becomes(Depth { ready: 7, unacknowledged: 3, delayed: 0 }).await;
    world.model.let_go(10);
    let mut answered = Vec::new();
    for _ in 1..=10 {
        answered.push(world.answer().await.run_id.0);
    }
    answered.sort_unstable();
    assert_eq!(answered, Vec::from_iter(1..=10));
    assert_eq!(world.model.asking_most(), 3);
    world.all_settled().await;
}

#[tokio::test]
async fn a_run_that_takes_longer_than_it_may_is_timed_out_and_its_mentor_let_go() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let mut asked = request(1, "wait");
    asked.timeout = Duration::from_secs(5);
    world.request(&asked).await;
    world.model.asked(1).await;
    world.advance(4_999);
    assert!(matches!(world.next().await, Said::Started(_)));
    world.advance(1);
    let answer = world.answer().await;
    assert_eq!(answer.result.reason, Some(RunReason::TimedOut));
    assert_eq!(answer.ended_at - answer.started_at, TimeDelta::seconds(5));
    let expected = "2026-11-21T10:00:05.000Z failed after 5000 ms: timed_out: no answer within 5 s\n";
    assert!(answer.result.log.ends_with(expected), "{}", answer.result.log);
    world.model.is_left_alone().await;
    world.all_settled().await;
}

#[tokio::test]
async fn only_a_run_that_lasts_is_announced_as_started() {
    let world = World::new().await;
    let _runner = world.runner().await;
    world.request(&request(1, "wait")).await;
    world.model.asked(1).await;
    world.advance(249);
    world.model.let_go(1);
    let answer = world.answer().await;
    assert_eq!(answer.ended_at - answer.started_at, TimeDelta::milliseconds(249));

    let begun = world.clock.now();
    world.request(&request(2, "wait")).await;
    world.model.asked(2).await;
    world.advance(250);
    let Said::Started(started) = world.next().await else { panic!("answered before it was let go") };
    assert_eq!((started.run_id.0, started.run_attempt, started.started_at), (2, 1, begun));
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 2);
}

#[tokio::test]
async fn a_run_that_somebody_waits_for_is_announced_at_once_and_only_once() {
    let world = World::new().await;
    let _runner = world.runner().await;
    let mut asked = request(1, "wait");
    asked.announce_start = true;
    world.request(&asked).await;
    assert!(matches!(world.next().await, Said::Started(_)));
    world.model.asked(1).await;
    world.advance(1_000);
    world.model.let_go(1);
    assert_eq!(world.answer().await.run_id.0, 1);
}
