//! What does not arrive at once.

use chrono::{DateTime, TimeDelta, Utc};

use crate::receiver::{Answer, Receiver, hmac_sha256};
use crate::stage::{SECRET, Stage, run};

#[tokio::test]
async fn a_receiver_that_was_down_gets_the_same_bytes_under_the_same_id() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(503)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    let failed = running.attempted(41, 1).await;
    assert_eq!(
        (&failed["status"], &failed["delivery_attempts"][0]["outcome"]),
        (&"pending".into(), &"http_status".into())
    );

    receiver.answer(Answer::Status(200));
    let again_at: DateTime<Utc> = failed["next_delivery_attempt_at"].as_str().unwrap().parse().unwrap();
    let delay = again_at - stage.clock.now();
    assert!(delay >= TimeDelta::seconds(5) && delay <= TimeDelta::milliseconds(5_500), "{delay}");
    stage.clock.advance(delay);
    let delivered = running.settled(41, "delivered").await;
    assert_eq!(delivered["delivery_attempts_made"], 2);
    let received = receiver.received(2).await;
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(received[0].header("x-hub-signature-256"), received[1].header("x-hub-signature-256"));
}

#[tokio::test]
async fn after_the_eleventh_failure_a_delivery_is_exhausted_and_stays() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(404)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    for made in 1..11 {
        let failed = running.attempted(41, made).await;
        let again_at: DateTime<Utc> = failed["next_delivery_attempt_at"].as_str().unwrap().parse().unwrap();
        stage.clock.advance(again_at - stage.clock.now());
    }
    let exhausted = running.settled(41, "exhausted").await;
    assert_eq!(exhausted["delivery_attempts"].as_array().unwrap().len(), 11);
    assert!(exhausted["next_delivery_attempt_at"].is_null());
    stage.clock.advance(TimeDelta::days(1));

    // The next result tells of it.
    receiver.answer(Answer::Status(200));
    stage.finish([run(7, 42)]).await;
    running.settled(42, "delivered").await;
    let received = receiver.received(12).await;
    assert_eq!(received.len(), 12);
    assert_eq!(received[11].json()["undelivered"], 1);
}

#[tokio::test]
async fn a_corrected_url_and_a_new_secret_reach_what_is_pending() {
    let stage = Stage::new().await;
    let (wrong, right) =
        (Receiver::answering(Answer::Status(500)).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &wrong.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    running.attempted(41, 1).await;
    let mut held = stage.documents_held().await;
    stage.announce(7, 3, &right.url, Some("another")).await;
    while crate::stage::next_documents_held(&mut held).await.documents[0].version != 3 {}
    // An older version comes late and changes nothing.
    stage.announce(7, 2, &wrong.url, Some("old")).await;
    crate::stage::next_documents_held(&mut held).await;
    stage.clock.advance(TimeDelta::seconds(6));
    running.settled(41, "delivered").await;
    let callback = right.received(1).await.remove(0);
    assert_eq!(
        callback.header("x-hub-signature-256"),
        Some(format!("sha256={}", hmac_sha256(b"another", &callback.body)).as_str())
    );
    assert_eq!(wrong.received(1).await[0].body, callback.body);
}

#[tokio::test]
async fn the_next_payload_tells_how_many_are_undelivered() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(500)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41), run(7, 42)]).await;
    running.attempted(41, 1).await;
    running.attempted(42, 1).await;
    stage.finish([run(7, 43)]).await;
    running.attempted(43, 1).await;
    let received = receiver.received(3).await;
    let undelivered: Vec<i64> =
        received.iter().map(|callback| callback.json()["undelivered"].as_i64().unwrap()).collect();
    assert_eq!(undelivered, [0, 0, 2]);
}

#[tokio::test]
async fn what_a_receiver_asks_for_is_not_undercut() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::RetryAfter(429, "3600")).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    let failed = running.attempted(41, 1).await;
    let again_at: DateTime<Utc> = failed["next_delivery_attempt_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(again_at - stage.clock.now(), TimeDelta::hours(1));
}

#[tokio::test]
async fn a_run_waits_for_the_version_of_its_agent_that_it_was_made_with() {
    let stage = Stage::new().await;
    let (old, new) = (Receiver::answering(Answer::Status(200)).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &old.url, None).await;
    stage.finish([run(7, 40)]).await;
    running.settled(40, "delivered").await;
    let mut later = run(7, 41);
    later.agent_version = Some(2);
    stage.finish([later]).await;
    assert!(running.settled(41, "pending").await["next_delivery_attempt_at"].is_null());
    stage.announce(7, 2, &new.url, None).await;
    running.settled(41, "delivered").await;
    assert_eq!((old.count(), new.count()), (1, 1));
}
