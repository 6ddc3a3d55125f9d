//! How often the announcer looks for what is overdue: each look reads all that is not held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, DeadLetter, Depth, Message, PublishError, Queue, Subscription};
use chrono::TimeDelta;
use serde_json::json;

use crate::harness::{PATIENCE, World};

const AGENTS: usize = 40;
const STEP: TimeDelta = TimeDelta::milliseconds(20);

/// A bus that counts how often somebody asked what waits in its queues.
struct Watched {
    bus: Arc<dyn Bus>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Bus for Watched {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        self.bus.publish(messages).await
    }
    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Consumer, BusError> {
        self.bus.consume(queue, prefetch).await
    }
    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.bus.broadcast(message).await
    }
    async fn subscribe(&self) -> Result<Subscription, BusError> {
        self.bus.subscribe().await
    }
    async fn depth(&self, queue: Queue) -> Result<Depth, BusError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.bus.depth(queue).await
    }
    async fn dead_letters(&self, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.bus.dead_letters(queue, limit).await
    }
    async fn requeue_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.bus.requeue_dead_letters(queue).await
    }
    async fn discard_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.bus.discard_dead_letters(queue).await
    }
    async fn close(&self) {
        self.bus.close().await;
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let found = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(found.await.is_ok(), "{what}");
}

#[tokio::test]
async fn what_becomes_overdue_one_by_one_is_looked_for_together() {
    let mut world = World::new().await;
    let (bus, asked) = (Arc::clone(&world.bus), Arc::new(AtomicUsize::new(0)));
    world.bus = Arc::new(Watched { bus: Arc::clone(&bus), asked: Arc::clone(&asked) });
    let app = world.open().await;
    let mentor = app.mentor().await;
    let waiting = async || bus.depth(Queue::CallbackDelivererDocuments).await.unwrap().ready;
    until("the mentor is not announced", async || waiting().await > 0).await;
    for _ in 0..AGENTS {
        let before = waiting().await;
        app.agent(&mentor, json!({})).await;
        until("an agent is not announced", async || waiting().await > before).await;
        world.clock.advance(STEP);
    }

    // Nobody takes them, and the first is overdue; the others follow, one each step.
    world.clock.advance(TimeDelta::seconds(5) - STEP * i32::try_from(AGENTS).unwrap());
    until("nobody looked", async || asked.load(Ordering::Relaxed) > 0).await;
    for _ in 0..AGENTS {
        world.clock.advance(STEP);
        // What is written is announced at once, and before the next is, whoever wants to look at this moment has looked.
        let before = waiting().await;
        app.agent(&mentor, json!({})).await;
        until("an agent is not announced", async || waiting().await > before).await;
    }
    let looks = asked.load(Ordering::Relaxed) / 2;
    assert!(looks <= 2, "within a second somebody looked {looks} times");
}
