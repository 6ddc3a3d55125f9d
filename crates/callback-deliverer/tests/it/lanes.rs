//! Receivers that hang, and those beside them.

use std::time::Duration;

use chrono::TimeDelta;
use model::document::{Organisation, Subject};
use model::event::DocumentChanged;
use test_kit::until;

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, document, next_documents_held, run};

#[tokio::test]
async fn receivers_that_hang_do_not_delay_their_neighbours() {
    let stage = Stage::new().await;
    let (hanging, healthy) = (Receiver::answering(Answer::Never).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    for agent_id in 0..10 {
        stage.announce(agent_id, 1, &hanging.url, None).await;
    }
    stage.announce(100, 1, &healthy.url, None).await;
    stage.finish((0..500).map(|log| run(log % 10, log))).await;
    // Each of the ten holds its few slots, for a deadline of a minute.
    hanging.received(40).await;
    stage.finish((0..200).map(|log| run(100, 1000 + log))).await;
    healthy.received(200).await;
    running.settled(1199, "delivered").await;
    assert_eq!(hanging.count(), 40);
    running.crash().await;
}

#[tokio::test]
async fn an_organisations_own_limit_is_kept() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Never).await);
    let running = stage.start().await;
    let mut held = stage.documents_held().await;
    let limited = Organisation { callbacks_in_flight_max: 3.try_into().ok(), ..Organisation::default() };
    stage.publish(&DocumentChanged { documents: vec![document(1, Subject::Organisation(limited))] }).await;
    next_documents_held(&mut held).await;
    for agent_id in 0..5 {
        stage.announce(agent_id, 1, &receiver.url, None).await;
    }
    stage.finish((0..20).map(|log| run(log % 5, log))).await;
    receiver.received(3).await;
    running.shown("deliveries?status=pending", |page| page["count"] == 20).await;
    assert_eq!(receiver.count(), 3);
    running.crash().await;
}

#[tokio::test]
async fn what_is_due_at_a_receiver_that_is_down_waits_and_is_never_dropped() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(503)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish((0..60).map(|log| run(7, log))).await;
    receiver.received(5).await;
    // The lane closes: far fewer than sixty were tried.
    running.shown("endpoints/7", |shown| shown["failures"].as_i64() >= Some(5)).await;
    assert!(receiver.count() < 40, "{}", receiver.count());
    receiver.answer(Answer::Status(200));
    until("all arrive", Duration::from_secs(120), async || {
        stage.clock.advance(TimeDelta::seconds(5));
        let (_, page) = running.get("deliveries?status=delivered").await;
        (page["count"] == 60).then_some(())
    })
    .await;
}
