//! Publishing: confirmed is durable, and every bound queue gets its copy.

use bus::{BODY_BYTES_MAX, Depth, PublishError, Queue};
use model::event::EventKind;

use super::{Installation, QUEUE, message, messages, run_requested, runs_requested, take};

pub async fn a_publish_is_durable_when_it_returns(installation: impl Installation) {
    let bus = installation.open().await;
    let published = runs_requested(3);
    bus.publish(published.clone()).await.unwrap();

    let bus = installation.crash_and_reopen(bus).await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    assert_eq!(messages(&take(&mut consumer, 3).await), published);
}

pub async fn a_changed_document_reaches_both_queues_bound_to_it(installation: impl Installation) {
    let bus = installation.open().await;
    let changed = message(EventKind::DocumentChanged, "an agent");
    bus.publish(vec![changed.clone()]).await.unwrap();

    for queue in [Queue::CronDispatcherDocuments, Queue::CallbackDelivererDocuments] {
        let mut consumer = bus.consume(queue, 1).await.unwrap();
        let delivery = take(&mut consumer, 1).await.remove(0);
        assert_eq!(delivery.message, changed);
        delivery.ack().await.unwrap();
    }
}

pub async fn what_no_queue_is_bound_to_cannot_be_published(installation: impl Installation) {
    let bus = installation.open().await;
    let cancel = message(EventKind::RunCancel, "1");
    let error = bus.publish(vec![run_requested(1), cancel]).await.unwrap_err();
    assert!(matches!(error, PublishError::Unroutable(EventKind::RunCancel)), "{error}");
    assert_eq!(bus.depth(QUEUE).await.unwrap(), Depth::default());
}

pub async fn a_body_too_large_for_a_broker_is_refused(installation: impl Installation) {
    let bus = installation.open().await;
    let large = message(EventKind::RunAnswered, vec![0; BODY_BYTES_MAX + 1]);
    let error = bus.publish(vec![large]).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { bytes } if bytes == BODY_BYTES_MAX + 1), "{error}");
}

pub async fn an_empty_body_and_a_large_one_arrive_as_they_were_sent(installation: impl Installation) {
    let bus = installation.open().await;
    let mut empty = message(EventKind::RunAnswered, "");
    empty.traceparent = None;
    let large = message(EventKind::RunStarted, (0..=255).cycle().take(10 * 1024 * 1024).collect::<Vec<u8>>());
    bus.publish(vec![empty.clone(), large.clone()]).await.unwrap();

    let mut consumer = bus.consume(Queue::CronDispatcherAnswers, 10).await.unwrap();
    let arrived = messages(&take(&mut consumer, 2).await);
    assert!(arrived == [empty, large], "they differ");
}
