//! Endpoints that fail for long: warned of, disabled, held for, and let go again.

use chrono::TimeDelta;
use serde_json::json;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, run};

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_and_gets_everything_once_it_is_enabled() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(410)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    running.settled(41, "held").await;
    stage.finish((42..62).map(|log| run(7, log))).await;
    running.settled(61, "held").await;
    let (_, shown) = running.get("endpoints/7").await;
    assert_eq!((&shown["callback_state"], &shown["disabled_reason"]), (&json!("disabled"), &json!("gone")));
    assert_eq!((&shown["held"], receiver.count()), (&json!(21), 1));
    assert_eq!(running.get("endpoints").await.1[0]["periodic_agent"], 7);

    receiver.answer(Answer::Status(200));
    let (status, enabled) = running.post("endpoints/7/enable?organisation=acme", &json!({})).await;
    assert_eq!((status, &enabled["callback_state"]), (200, &json!("ok")));
    // A few at a time.
    running.settled(41, "delivered").await;
    running.shown("endpoints/7", |shown| shown["held"] == 11).await;
    assert!(receiver.count() <= 11);
    stage.clock.advance(TimeDelta::seconds(1));
    running.shown("endpoints/7", |shown| shown["held"] == 1).await;
    stage.clock.advance(TimeDelta::seconds(1));
    running.settled(61, "delivered").await;
    let received = receiver.received(22).await;
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(running.get("endpoints").await.1, json!([]));
}

#[tokio::test]
async fn a_corrected_url_enables_a_disabled_endpoint() {
    let stage = Stage::new().await;
    let (gone, there) =
        (Receiver::answering(Answer::Status(410)).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &gone.url, None).await;
    stage.finish([run(7, 41)]).await;
    running.settled(41, "held").await;
    stage.announce(7, 2, &there.url, None).await;
    running.settled(41, "delivered").await;
    assert_eq!(there.count(), 1);
}

#[tokio::test]
async fn an_organisation_is_warned_three_times_and_told_of_the_end() {
    let stage = Stage::new().await;
    let (away, alerts) =
        (Receiver::answering(Answer::Status(500)).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce_alerts(&alerts.url).await;
    stage.announce(7, 1, &away.url, None).await;
    stage.finish([run(7, 41)]).await;
    running.attempted(41, 1).await;
    assert_eq!(running.get("endpoints/7").await.1["callback_state"], "failing");
    // At 60, 84, 108 and 120 hours; each time a new result fails.
    for (step, hours) in [(1, 60), (2, 24), (3, 24), (4, 12)] {
        stage.clock.advance(TimeDelta::hours(hours));
        stage.finish([run(7, 41 + step)]).await;
        alerts.received(usize::try_from(step).unwrap()).await;
        running.shown("deliveries?status=delivered", |page| page["count"] == step).await;
        // What the registry tells the audit log.
        let percent = [50, 70, 90, 100][usize::try_from(step).unwrap() - 1];
        assert_eq!(running.get("endpoints").await.1[0]["warned_percent"], percent);
    }
    let told = alerts.received(4).await;
    let events: Vec<String> = told.iter().map(|told| told.json()["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["endpoint.failing", "endpoint.failing", "endpoint.failing", "endpoint.disabled"]);
    for told in &told {
        let told_json = told.json();
        assert_eq!((&told_json["periodic_agent"], &told_json["organisation"]), (&json!(7), &json!("acme")));
        assert!(callback_deliverer::verify_signature(
            SECRET.as_bytes(),
            &told.body,
            told.header("x-hub-signature-256").unwrap()
        ));
    }
    let shown = running.shown("endpoints/7", |shown| shown["callback_state"] == "disabled").await;
    assert_eq!(shown["disabled_reason"], "failing");

    // Nothing is lost: it is held, and what comes is held too.
    stage.finish([run(7, 50)]).await;
    running.settled(50, "held").await;
    running.stop().await;
    let running = stage.start().await;
    assert_eq!(running.get("endpoints/7").await.1["callback_state"], "disabled");
}

#[tokio::test]
async fn one_success_ends_the_count() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(500)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    running.attempted(41, 1).await;
    let failing = running.get("endpoints/7").await.1;
    assert_eq!((&failing["callback_state"], &failing["failures"]), (&json!("failing"), &json!(1)));
    receiver.answer(Answer::Status(200));
    stage.clock.advance(TimeDelta::seconds(6));
    running.settled(41, "delivered").await;
    running.shown("endpoints/7", |shown| shown["callback_state"] == "ok").await;
}
