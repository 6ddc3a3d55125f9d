//! Broadcasts: to whoever listens now, and to nobody later.

use bus::Queue;
use model::event::EventKind;

use super::{Installation, message, never, soon};

pub async fn a_broadcast_reaches_every_subscriber(installation: impl Installation) {
    let bus = installation.open().await;
    let mut one = bus.subscribe().await.unwrap();
    let mut other = bus.subscribe().await.unwrap();
    let cancels = [message(EventKind::RunCancel, "1"), message(EventKind::RunCancel, "2")];
    for cancel in &cancels {
        bus.broadcast(cancel.clone()).await.unwrap();
    }
    for cancel in &cancels {
        assert_eq!(soon(one.next()).await.as_ref(), Some(cancel));
        assert_eq!(soon(other.next()).await.as_ref(), Some(cancel));
    }
}

pub async fn a_broadcast_is_not_stored(installation: impl Installation) {
    let bus = installation.open().await;
    let mut early = bus.subscribe().await.unwrap();
    bus.broadcast(message(EventKind::RunCancel, "1")).await.unwrap();
    // A broadcast is not confirmed: it may still be on its way when the call returns.
    assert!(soon(early.next()).await.is_some());
    let mut late = bus.subscribe().await.unwrap();
    never(late.next()).await;
    for queue in Queue::ALL {
        assert!(bus.depth(queue).await.unwrap().is_empty(), "{queue}");
    }
}

pub async fn subscriptions_end_when_the_bus_is_closed(installation: impl Installation) {
    let bus = installation.open().await;
    let mut subscription = bus.subscribe().await.unwrap();
    soon(bus.close()).await;
    assert_eq!(soon(subscription.next()).await, None);
}
