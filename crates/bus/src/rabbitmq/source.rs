//! A consumer: one tap after the other, as connections come and go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Shared;
use super::tap::{OpenTap, Tap};
use crate::consumer::{Delivery, Source};
use crate::error::BusError;
use crate::topology::Queue;

/// Between tries to consume on a connection that seems well.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Where the messages of a consumer come from.
pub(super) struct RabbitSource {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Queue,
    pub(super) prefetch: u16,
    pub(super) open: Option<OpenTap>,
}

impl RabbitSource {
    /// Consumes, on the connection that there is or the next one. Fails only when the bus is closed.
    pub(super) async fn open_tap(&mut self) -> Result<Arc<Tap>, BusError> {
        loop {
            if let Some(open) = self.open.as_ref().filter(|open| !open.tap.has_ended()) {
                return Ok(Arc::clone(&open.tap));
            }
            self.open = None;
            let session = self.shared.consuming.session(None).await?;
            match Tap::open(Arc::clone(&self.shared), Arc::clone(&session), self.queue, self.prefetch).await {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    tracing::warn!(queue = %self.queue, %error, "cannot consume at present");
                    // The next connection declares again what may be missing.
                    session.give_up("a queue could not be consumed");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

#[async_trait]
impl Source for RabbitSource {
    async fn next_batch(&mut self, max: usize, max_bytes: usize) -> Option<Vec<Delivery>> {
        let closing = self.shared.closing.clone();
        let next = async {
            loop {
                let tap = self.open_tap().await.ok()?;
                if let Some(batch) = tap.take(max, max_bytes).await {
                    return Some(batch);
                }
            }
        };
        closing.run_until_cancelled(next).await.flatten()
    }
}
