//! Dead letters: kept with their reason until an operator decides.

use bus::{Bus, Depth, Queue};

use super::{Installation, QUEUE, depth_becomes, messages, numbers, runs_requested, take};

async fn with_dead_letters(bus: &dyn Bus, count: usize) {
    bus.publish(runs_requested(count)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, count).await.unwrap();
    for delivery in take(&mut consumer, count).await {
        delivery.dead_letter("the mentor is unknown").await.unwrap();
    }
}

pub async fn a_dead_letter_is_kept_with_its_reason(installation: impl Installation) {
    let bus = installation.open().await;
    with_dead_letters(&*bus, 3).await;
    depth_becomes(&*bus, QUEUE, Depth::default()).await;

    let bus = installation.crash_and_reopen(bus).await;
    let dead = bus.dead_letters(QUEUE, 2).await.unwrap();
    assert_eq!(numbers(dead.iter().map(|dead| &dead.message)), [0, 1]);
    assert_eq!((dead[0].reason.as_str(), dead[0].failures), ("the mentor is unknown", 1));
    assert!(dead[0].time > chrono::DateTime::UNIX_EPOCH);
    assert_eq!(bus.dead_letters(QUEUE, 100).await.unwrap().len(), 3);
    assert_eq!(bus.dead_letters(Queue::AgentRegistryRuns, 100).await.unwrap(), []);
}

pub async fn requeued_dead_letters_come_again_as_if_new(installation: impl Installation) {
    let bus = installation.open().await;
    with_dead_letters(&*bus, 3).await;
    assert_eq!(bus.requeue_dead_letters(QUEUE).await.unwrap(), 3);
    assert_eq!(bus.dead_letters(QUEUE, 100).await.unwrap(), []);

    let bus = installation.crash_and_reopen(bus).await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let taken = take(&mut consumer, 3).await;
    assert_eq!(numbers(&messages(&taken)), [0, 1, 2]);
    assert!(taken.iter().all(|delivery| delivery.failures == 0));
}

pub async fn discarded_dead_letters_are_gone(installation: impl Installation) {
    let bus = installation.open().await;
    with_dead_letters(&*bus, 3).await;
    assert_eq!(bus.discard_dead_letters(Queue::AgentRegistryRuns).await.unwrap(), 0);
    assert_eq!(bus.discard_dead_letters(QUEUE).await.unwrap(), 3);
    assert_eq!(bus.dead_letters(QUEUE, 100).await.unwrap(), []);
    assert_eq!(bus.requeue_dead_letters(QUEUE).await.unwrap(), 0);
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
}
