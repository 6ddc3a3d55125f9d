//! A bus with a gate before it: a test decides what publishers meet there, and whether the bus seems connected; everybody
//! else goes by.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, DeadLetter, Depth, Message, PublishError, Queue, Subscription};
use tokio::sync::watch;

/// What publishers meet.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Before a publish: lets it through, keeps it waiting, or turns it away.
    ///
    /// # Errors
    ///
    /// What the publisher gets instead.
    async fn enter(&self, messages: &[Message]) -> Result<(), PublishError>;

    /// Whether the bus is connected: what it says itself, unless a test plays that it is not.
    fn connected(&self, inner: watch::Receiver<bool>) -> watch::Receiver<bool> {
        inner
    }

    /// Before somebody is told how much waits in a queue.
    async fn look(&self, queue: Queue) {
        let _ = queue;
    }

    /// How much somebody is told that waits there: what does, unless a test plays that it is otherwise.
    fn depth(&self, queue: Queue, inner: Depth) -> Depth {
        let _ = queue;
        inner
    }

    /// So many messages of one publish were confirmed.
    fn confirmed(&self, messages: usize) {
        let _ = messages;
    }
}

/// A bus behind a gate.
pub struct GatedBus<G> {
    /// What it is behind.
    pub gate: G,
    /// The bus without the gate.
    pub inner: Arc<dyn Bus>,
}

#[async_trait]
impl<G: Gate> Bus for GatedBus<G> {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        self.gate.enter(&messages).await?;
        let count = messages.len();
        self.inner.publish(messages).await?;
        self.gate.confirmed(count);
        Ok(())
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Consumer, BusError> {
        self.inner.consume(queue, prefetch).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.inner.broadcast(message).await
    }

    async fn subscribe(&self) -> Result<Subscription, BusError> {
        self.inner.subscribe().await
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BusError> {
        self.gate.look(queue).await;
        Ok(self.gate.depth(queue, self.inner.depth(queue).await?))
    }

    async fn dead_letters(&self, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        self.inner.dead_letters(queue, limit).await
    }

    async fn requeue_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.inner.requeue_dead_letters(queue).await
    }

    async fn discard_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.inner.discard_dead_letters(queue).await
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.gate.connected(self.inner.connected())
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
