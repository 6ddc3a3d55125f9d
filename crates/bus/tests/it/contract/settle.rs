//! Settling: done, later, not now; and what depth tells meanwhile.

use std::time::{Duration, Instant};

use bus::{Delivery, Depth};

use super::{
    ANY_BYTES, Installation, QUEUE, depth_becomes, messages, never, numbers, run_requested, runs_requested, take,
};

pub async fn an_acknowledged_message_is_gone_for_good(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(2)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let mut taken = take(&mut consumer, 2).await;
    taken.remove(0).ack().await.unwrap();
    drop((consumer, taken));

    let bus = installation.crash_and_reopen(bus).await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let left = take(&mut consumer, 1).await;
    assert_eq!(numbers(&messages(&left)), [1]);
    never(consumer.next_batch(10, ANY_BYTES)).await;
}

pub async fn many_messages_are_acknowledged_in_one_call(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(100)).await.unwrap();
    let mut one = bus.consume(QUEUE, 60).await.unwrap();
    let mut other = bus.consume(QUEUE, 60).await.unwrap();
    let mut taken = take(&mut one, 40).await;
    taken.extend(take(&mut other, 40).await);
    Delivery::ack_all(taken).await.unwrap();
    drop((one, other));
    depth_becomes(&*bus, QUEUE, Depth { ready: 20, ..Depth::default() }).await;
}

pub async fn a_delivery_outlives_its_consumer(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(3)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 2).await.unwrap();
    let taken = take(&mut consumer, 2).await;
    drop(consumer);
    depth_becomes(&*bus, QUEUE, Depth { ready: 1, unacknowledged: 2, delayed: 0 }).await;
    Delivery::ack_all(taken).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 1, ..Depth::default() }).await;
}

pub async fn a_retried_message_comes_back_after_its_delay_with_one_more_failure(installation: impl Installation) {
    const DELAY: Duration = Duration::from_millis(400);
    let bus = installation.open().await;
    bus.publish(vec![run_requested(1)]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();

    for failures in 0..2 {
        let delivery = take(&mut consumer, 1).await.remove(0);
        assert_eq!(delivery.failures, failures);
        let failed_at = Instant::now();
        delivery.retry_later(DELAY, "a mentor was asleep").await.unwrap();

        let delivery = take(&mut consumer, 1).await.remove(0);
        assert!(failed_at.elapsed() >= DELAY, "came back after {:?}", failed_at.elapsed());
        assert_eq!(delivery.failures, failures + 1);
        delivery.release().await.unwrap();
    }
}

pub async fn failures_survive_a_crash(installation: impl Installation) {
    let bus = installation.open().await;
    let published = run_requested(1);
    bus.publish(vec![published.clone()]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    delivery.retry_later(Duration::from_millis(50), "a mentor was asleep").await.unwrap();
    drop(consumer);

    let bus = installation.crash_and_reopen(bus).await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert_eq!((delivery.failures, &delivery.message), (1, &published));
}

pub async fn a_released_message_returns_uncounted(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(vec![run_requested(1)]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert!(!delivery.redelivered);
    delivery.release().await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert_eq!((delivery.failures, delivery.redelivered), (0, true));
    drop(delivery);
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert_eq!((delivery.failures, delivery.redelivered), (0, true));
}

pub async fn a_message_is_put_off_as_often_as_it_takes_and_nothing_is_counted(installation: impl Installation) {
    const DELAY: Duration = Duration::from_millis(400);
    let bus = installation.open().await;
    let published = run_requested(1);
    bus.publish(vec![published.clone()]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let failed = take(&mut consumer, 1).await.remove(0);
    failed.retry_later(Duration::from_millis(1), "a mentor was asleep").await.unwrap();

    // More often than any broker hands a message out.
    for _ in 0..300 {
        let delivery = take(&mut consumer, 1).await.remove(0);
        assert_eq!((delivery.failures, &delivery.message), (1, &published));
        delivery.put_off(Duration::from_millis(1)).await.unwrap();
    }
    let deliveries = take(&mut consumer, 1).await;
    let put_off_at = Instant::now();
    Delivery::put_off_all(deliveries, DELAY).await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert!(put_off_at.elapsed() >= DELAY, "came back after {:?}", put_off_at.elapsed());
    assert_eq!((delivery.failures, &delivery.message), (1, &published));
    delivery.put_off(Duration::from_secs(60)).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { delayed: 1, ..Depth::default() }).await;
    assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap(), []);
}

pub async fn depth_tells_ready_unacknowledged_and_delayed_apart(installation: impl Installation) {
    let bus = installation.open().await;
    assert!(bus.depth(QUEUE).await.unwrap().is_empty());
    bus.publish(runs_requested(6)).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 6, ..Depth::default() }).await;

    let mut consumer = bus.consume(QUEUE, 3).await.unwrap();
    let mut taken = take(&mut consumer, 3).await;
    // Takes no more in the place of what it settles.
    drop(consumer);
    depth_becomes(&*bus, QUEUE, Depth { ready: 3, unacknowledged: 3, delayed: 0 }).await;
    taken.remove(0).retry_later(Duration::from_secs(60), "a mentor was asleep").await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 3, unacknowledged: 2, delayed: 1 }).await;
    taken.remove(0).dead_letter("a mentor was gone").await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 3, unacknowledged: 1, delayed: 1 }).await;
    taken.remove(0).ack().await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 3, unacknowledged: 0, delayed: 1 }).await;
}
