//! Closing: an end in good order, after which nothing is missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::{BusError, Depth, PublishError, Queue};
use model::event::EventKind;

use super::{
    ANY_BYTES, Installation, QUEUE, depth_becomes, message, messages, numbers, run_requested, runs_requested, soon,
    take,
};

pub async fn closing_hands_out_nothing_more_and_waits_for_what_is_in_hand(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(3)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 2).await.unwrap();
    let mut in_hand = take(&mut consumer, 2).await;

    let closing = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { bus.close().await }
    });
    assert!(soon(consumer.next_batch(1, ANY_BYTES)).await.is_none());
    assert!(!closing.is_finished());
    // Whoever finishes what it has in hand says what came of it, and then settles.
    bus.publish(vec![message(EventKind::RunAnswered, "done")]).await.unwrap();
    in_hand.remove(0).ack().await.unwrap();
    drop(in_hand);
    soon(closing).await.unwrap();

    let bus = installation.open().await;
    depth_becomes(&*bus, Queue::CronDispatcherAnswers, Depth { ready: 1, ..Depth::default() }).await;
    let mut consumer = bus.consume(QUEUE, 2).await.unwrap();
    // In any order: what a consumer gave back may come behind what it never saw.
    let left: BTreeSet<_> = numbers(&messages(&take(&mut consumer, 2).await)).into_iter().collect();
    assert_eq!(left, [1, 2].into());
}

pub async fn closing_loses_nothing(installation: impl Installation) {
    let bus = installation.open().await;
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let bus = Arc::clone(&bus);
        publishers.spawn(async move {
            let mut confirmed = Vec::new();
            for n in (0_usize..).map(|n| n * 4 + publisher) {
                match bus.publish(vec![run_requested(n)]).await {
                    Ok(()) => confirmed.push(n),
                    Err(PublishError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            confirmed
        });
    }
    // Until it is in full swing.
    while bus.depth(QUEUE).await.unwrap().ready < 100 {
        tokio::task::yield_now().await;
    }
    soon(bus.close()).await;
    let confirmed: BTreeSet<usize> = soon(publishers.join_all()).await.into_iter().flatten().collect();

    let bus = installation.open().await;
    let stored = bus.depth(QUEUE).await.unwrap().ready;
    let mut consumer = bus.consume(QUEUE, 60_000).await.unwrap();
    let found: BTreeSet<usize> =
        numbers(&messages(&take(&mut consumer, usize::try_from(stored).unwrap()).await)).into_iter().collect();
    assert!(found.is_superset(&confirmed), "lost {:?}", confirmed.difference(&found));
}

pub async fn a_closed_bus_says_so(installation: impl Installation) {
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    soon(bus.close()).await;
    soon(bus.close()).await;
    assert!(soon(consumer.next_batch(1, ANY_BYTES)).await.is_none());
    assert!(matches!(bus.publish(vec![run_requested(1)]).await, Err(PublishError::Closed)));
    assert!(matches!(bus.broadcast(message(EventKind::RunCancel, "1")).await, Err(PublishError::Closed)));
    assert!(matches!(bus.consume(QUEUE, 1).await, Err(BusError::Closed)));
    assert!(matches!(bus.subscribe().await, Err(BusError::Closed)));
    assert!(matches!(bus.depth(QUEUE).await, Err(BusError::Closed)));
}
