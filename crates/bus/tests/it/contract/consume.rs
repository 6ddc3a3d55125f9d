//! Consuming: order, batches, prefetch, sharing.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{Delivery, Depth, Message, Queue};
use model::event::EventKind;

use super::{
    ANY_BYTES, Installation, QUEUE, depth_becomes, message, messages, never, number, numbers, run_requested,
    runs_requested, soon, take,
};

pub async fn messages_come_in_the_order_of_their_publishing(installation: impl Installation) {
    let bus = installation.open().await;
    for chunk in runs_requested(300).chunks(50) {
        bus.publish(chunk.to_vec()).await.unwrap();
    }
    let mut consumer = bus.consume(QUEUE, 500).await.unwrap();
    let taken = take(&mut consumer, 300).await;
    assert_eq!(numbers(&messages(&taken)), (0..300).collect::<Vec<_>>());
}

pub async fn a_batch_keeps_to_its_bounds(installation: impl Installation) {
    let bus = installation.open().await;
    let body = |bytes| message(EventKind::RunRequested, vec![b'x'; bytes]);
    bus.publish(vec![body(5000), body(400), body(400), body(400), body(1), body(1)]).await.unwrap();

    let mut consumer = bus.consume(QUEUE, 100).await.unwrap();
    let large = soon(consumer.next_batch(10, 1000)).await.unwrap();
    assert_eq!(large.len(), 1, "more than the bytes allow comes alone");
    let mut in_hand = large;
    while in_hand.len() < 6 {
        let batch = soon(consumer.next_batch(2, 1000)).await.unwrap();
        assert!(batch.len() <= 2, "{} messages", batch.len());
        assert!(batch.iter().map(|delivery| delivery.message.body.len()).sum::<usize>() <= 1000);
        in_hand.extend(batch);
    }
}

pub async fn a_waiting_consumer_gets_what_is_published_later(installation: impl Installation) {
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.next_batch(10, ANY_BYTES).await });
    tokio::task::yield_now().await;
    bus.publish(vec![run_requested(7)]).await.unwrap();
    let batch = soon(waiting).await.unwrap().unwrap();
    assert_eq!(numbers(&messages(&batch)), [7]);
    assert_eq!(batch[0].failures, 0);
}

pub async fn a_consumer_never_has_more_unacknowledged_than_its_prefetch(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 4).await.unwrap();

    let mut in_hand = take(&mut consumer, 4).await;
    never(consumer.next_batch(10, ANY_BYTES)).await;
    depth_becomes(&*bus, QUEUE, Depth { ready: 6, unacknowledged: 4, delayed: 0 }).await;

    Delivery::ack_all(in_hand.drain(..3).collect()).await.unwrap();
    in_hand.extend(take(&mut consumer, 3).await);
    never(consumer.next_batch(10, ANY_BYTES)).await;
    depth_becomes(&*bus, QUEUE, Depth { ready: 3, unacknowledged: 4, delayed: 0 }).await;
}

pub async fn large_messages_do_not_all_come_ahead(installation: impl Installation) {
    const MESSAGES: u64 = 40;
    const BYTES: usize = 2 * 1024 * 1024;
    const LARGE: Queue = Queue::CronDispatcherAnswers;
    // What may wait in a consumer, and the one in hand.
    const AHEAD_MAX: u64 = 32 / 2 + 1;
    let bus = installation.open().await;
    for n in 0..MESSAGES {
        let mut body = vec![b' '; BYTES];
        body.extend(n.to_string().into_bytes());
        bus.publish(vec![message(EventKind::RunAnswered, body)]).await.unwrap();
    }

    let mut consumer = bus.consume(LARGE, 100).await.unwrap();
    let in_hand = soon(consumer.next_batch(1, ANY_BYTES)).await.unwrap();
    let depth = || async { bus.depth(LARGE).await.unwrap() };
    let is_bounded = |depth: Depth| depth.unacknowledged <= AHEAD_MAX;
    let adds_up = |depth: Depth| depth.ready + depth.unacknowledged == MESSAGES;
    // Each look counts all that was sent before it, so a later one finds what was still on its way.
    soon(async {
        let mut looks = 0;
        while looks < 20 {
            let depth = depth().await;
            looks = if adds_up(depth) && is_bounded(depth) { looks + 1 } else { 0 };
        }
    })
    .await;

    let mut arrived = BTreeSet::new();
    let mut batch = in_hand;
    loop {
        arrived.extend(batch.iter().map(|delivery| delivery.message.body[BYTES..].to_vec()));
        Delivery::ack_all(batch).await.unwrap();
        if arrived.len() as u64 == MESSAGES {
            break;
        }
        batch = soon(consumer.next_batch(10, BYTES)).await.unwrap();
    }
    depth_becomes(&*bus, LARGE, Depth::default()).await;
}

pub async fn unacknowledged_messages_return_when_their_consumer_is_dropped(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(20)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 20).await.unwrap();
    let in_hand = take(&mut consumer, 15).await;
    drop((consumer, in_hand));

    let mut consumer = bus.consume(QUEUE, 20).await.unwrap();
    let mut taken = take(&mut consumer, 20).await;
    assert!(taken.iter().all(|delivery| delivery.failures == 0));
    taken.sort_by_key(|delivery| number(&delivery.message));
    assert_eq!(numbers(&messages(&taken)), (0..20).collect::<Vec<_>>());
    assert!(taken[0].redelivered);
}

pub async fn a_consumer_that_stops_waiting_loses_nothing(installation: impl Installation) {
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 100).await.unwrap();
    let publisher = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move {
            for n in 0..100 {
                bus.publish(vec![run_requested(n)]).await.unwrap();
            }
        }
    });
    let mut arrived = HashSet::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while arrived.len() < 100 {
        assert!(Instant::now() < deadline, "only {} messages arrived", arrived.len());
        let waiting = consumer.next_batch(10, ANY_BYTES);
        // Gives up so soon that it often does so while messages are on their way.
        if let Ok(batch) = tokio::time::timeout(Duration::from_micros(300), waiting).await {
            let batch = batch.unwrap();
            arrived.extend(numbers(&messages(&batch)));
            Delivery::ack_all(batch).await.unwrap();
        }
    }
    soon(publisher).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
}

pub async fn several_consumers_share_a_queue_without_a_message_going_to_two(installation: impl Installation) {
    const COUNT: usize = 400;
    let bus = installation.open().await;
    bus.publish(runs_requested(COUNT)).await.unwrap();

    let arrived = Arc::new(Mutex::new(Vec::new()));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
        let arrived = Arc::clone(&arrived);
        consumers.spawn(async move {
            while let Some(batch) = consumer.next_batch(7, ANY_BYTES).await {
                arrived.lock().unwrap().extend(numbers(&messages(&batch)));
                Delivery::ack_all(batch).await.unwrap();
            }
        });
    }
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    soon(bus.close()).await;
    soon(consumers.join_all()).await;

    let mut arrived = arrived.lock().unwrap().clone();
    arrived.sort_unstable();
    assert_eq!(arrived, (0..COUNT).collect::<Vec<_>>());
}

pub async fn every_message_arrives_exactly_once_when_nothing_crashes(installation: impl Installation) {
    const COUNT: usize = 20_000;
    const PUBLISHERS: usize = 4;
    let bus = installation.open().await;
    let started = Instant::now();
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let bus = Arc::clone(&bus);
        publishers.spawn(async move {
            let numbered: Vec<usize> = (0..COUNT).filter(|n| n % PUBLISHERS == publisher).collect();
            for chunk in numbered.chunks(50) {
                bus.publish(chunk.iter().map(|n| one_kibibyte(*n)).collect()).await.unwrap();
            }
        });
    }

    let mut consumer = bus.consume(QUEUE, 200).await.unwrap();
    let mut seen = vec![0_u8; COUNT];
    let mut left = COUNT;
    while left > 0 {
        let batch = soon(consumer.next_batch(100, 256 * 1024)).await.unwrap();
        left = left.checked_sub(batch.len()).expect("more messages than were published");
        for delivery in &batch {
            seen[padded_number(&delivery.message)] += 1;
        }
        Delivery::ack_all(batch).await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{COUNT} messages of 1 KiB in {seconds:.2} s: {:.0} a second", COUNT as f64 / seconds);

    publishers.join_all().await;
    assert!(seen.iter().all(|times| *times == 1));
    never(consumer.next_batch(1, ANY_BYTES)).await;
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
}

fn one_kibibyte(n: usize) -> Message {
    message(EventKind::RunRequested, format!("{n:<1024}"))
}

fn padded_number(message: &Message) -> usize {
    std::str::from_utf8(&message.body).unwrap().trim_end().parse().unwrap()
}
