//! Crashes and restarts.

use chrono::TimeDelta;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, run};

#[tokio::test]
async fn after_a_crash_between_post_and_commit_it_comes_again_under_the_same_id() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Never).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    receiver.received(1).await;
    running.crash().await;

    receiver.answer(Answer::Status(200));
    let running = stage.start_after_crash().await;
    let delivered = running.settled(41, "delivered").await;
    // What was never answered for was never counted.
    assert_eq!(delivered["delivery_attempts_made"], 1);
    let received = receiver.received(2).await;
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(received[0].header("webhook-id"), delivered["webhook_id"].as_str());
}

#[tokio::test]
async fn a_crash_in_a_flood_loses_nothing() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    for batch in 0..5 {
        stage.finish((0..100).map(|n| run(7, batch * 100 + n))).await;
    }
    for seen in [1, 120, 350] {
        let running = stage.start_after_crash().await;
        receiver.received(seen).await;
        running.crash().await;
    }
    let running = stage.start_after_crash().await;
    for log in (0..500).rev() {
        running.settled(log, "delivered").await;
    }
    let mut ids: std::collections::BTreeMap<i64, std::collections::BTreeSet<String>> = Default::default();
    for callback in receiver.received(500).await {
        let id = callback.header("webhook-id").unwrap().to_owned();
        ids.entry(callback.json()["log_id"].as_i64().unwrap()).or_default().insert(id);
    }
    assert_eq!(ids.len(), 500);
    assert!(ids.values().all(|ids| ids.len() == 1));
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_in_flight_and_a_restart_goes_on() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(500)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    receiver.received(1).await;
    running.stop().await;

    receiver.answer(Answer::Status(200));
    let running = stage.start().await;
    let pending = running.settled(41, "pending").await;
    assert_eq!(pending["delivery_attempts_made"], 1);
    stage.clock.advance(TimeDelta::seconds(6));
    running.settled(41, "delivered").await;
    assert_eq!(receiver.count(), 2);
}
