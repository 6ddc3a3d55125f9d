//! Both dialects of signatures, rotation, encryption, and the other headers.

use callback_deliverer::signature::standard;
use callback_deliverer::verify_signature;
use chrono::TimeDelta;
use model::document::{Endpoint, PreviousSecret};
use model::id::RunId;
use service_kit::traces::Place;

use crate::receiver::{Answer, Callback, Receiver};
use crate::stage::{SECRET, Stage, noon, run};

fn is_standard(callback: &Callback, secret: &str) -> bool {
    let header = |name: &str| callback.header(name).unwrap_or_default();
    let (id, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    standard::verify(secret.as_bytes(), id, at, &callback.body, signature)
}

fn is_hub(callback: &Callback, secret: &str) -> bool {
    verify_signature(secret.as_bytes(), &callback.body, callback.header("x-hub-signature-256").unwrap_or_default())
}

/// One callback of an endpoint with these options.
async fn callback(change: impl FnOnce(&Stage, &mut Endpoint)) -> Callback {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut endpoint = Endpoint::new(receiver.url.clone(), stage.seal(7, SECRET));
    change(&stage, &mut endpoint);
    stage.announce_endpoint(7, 1, endpoint).await;
    stage.finish([run(7, 41)]).await;
    let callback = receiver.received(1).await.remove(0);
    running.stop().await;
    callback
}

#[tokio::test]
async fn a_callback_carries_both_dialects_and_a_trace() {
    let callback = callback(|_, _| {}).await;
    assert!(is_hub(&callback, SECRET) && is_standard(&callback, SECRET));
    assert_eq!(callback.header("webhook-timestamp"), Some(noon().timestamp().to_string().as_str()));
    assert_eq!(callback.header("content-type"), Some("application/json"));
    let trace = Place::outcome(RunId(41)).trace_id();
    assert!(callback.header("traceparent").unwrap().starts_with(&format!("00-{trace}-")));
}

#[tokio::test]
async fn while_a_rotation_has_grace_both_secrets_are_good_and_the_hub_signature_is_the_old_ones() {
    let rotated = |grace: i64| {
        callback(move |stage, endpoint| {
            let until = noon() + TimeDelta::seconds(grace);
            endpoint.previous_secret = Some(PreviousSecret { sealed: stage.seal(7, "old"), until });
        })
    };
    let within = rotated(1).await;
    assert!(is_standard(&within, SECRET) && is_standard(&within, "old"));
    assert!(is_hub(&within, "old") && !is_hub(&within, SECRET));
    let after = rotated(0).await;
    assert!(is_standard(&after, SECRET) && !is_standard(&after, "old"));
    assert!(is_hub(&after, SECRET) && !is_hub(&after, "old"));
}

#[tokio::test]
async fn an_endpoint_may_want_the_hub_signature_alone() {
    let callback = callback(|_, endpoint| endpoint.signature_only_hub = true).await;
    assert!(is_hub(&callback, SECRET));
    assert!(callback.header("webhook-signature").is_none() && callback.header("webhook-timestamp").is_none());
    assert!(callback.header("webhook-id").is_some());
}

#[tokio::test]
async fn an_encrypted_callback_is_signed_as_it_is_sent_and_made_anew_each_time() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(503)).await);
    let running = stage.start().await;
    let mut endpoint = Endpoint::new(receiver.url.clone(), stage.seal(7, SECRET));
    endpoint.encrypt = true;
    stage.announce_endpoint(7, 1, endpoint).await;
    stage.finish([run(7, 41)]).await;
    running.attempted(41, 1).await;
    stage.clock.advance(TimeDelta::seconds(6));
    running.attempted(41, 2).await;
    let received = receiver.received(2).await;
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_ne!(received[0].body, received[1].body);
    for callback in &received {
        assert_eq!(callback.header("content-type"), Some("application/jose"));
        assert!(is_hub(callback, SECRET) && is_standard(callback, SECRET));
        assert_eq!(callback.body.split(|byte| *byte == b'.').count(), 5);
    }
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_never_sent_without_a_secret() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut endpoint = Endpoint::new(receiver.url.clone(), Vec::new());
    endpoint.encrypt = true;
    stage.announce_endpoint(7, 1, endpoint).await;
    stage.finish([run(7, 41)]).await;
    let failed = running.attempted(41, 1).await;
    assert_eq!(failed["delivery_attempts"][0]["outcome"], "secret_unreadable");
    assert_eq!(receiver.count(), 0);
}
