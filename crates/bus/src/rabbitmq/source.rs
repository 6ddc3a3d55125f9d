//! A consumer: one tap after the other, as connections come and go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::Shared;
use super::prefetch::Prefetch;
use super::session::Session;
use super::tap::{OpenTap, Tap};
use crate::consumer::{Delivery, Source};
use crate::error::BusError;
use crate::topology::Queue;

/// Between tries to consume on a connection that seems well.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Where the messages of a consumer come from.
pub(super) struct RabbitSource {
    shared: Arc<Shared>,
    queue: Queue,
    prefetch: Prefetch,
    open: Option<OpenTap>,
    opening: Option<Opening>,
}

/// A tap that is being opened on a connection. A task of its own, so that it comes to its end whoever stops waiting for
/// it: half open, the broker would hand messages to a consumer that nobody reads.
struct Opening {
    session: Arc<Session>,
    task: JoinHandle<lapin::Result<OpenTap>>,
}

impl RabbitSource {
    /// Consumes nothing yet.
    pub(super) fn new(shared: Arc<Shared>, queue: Queue, prefetch: u16) -> Self {
        let prefetch = if queue.stays_in_hand() { Prefetch::fixed(prefetch) } else { Prefetch::new(prefetch) };
        Self { shared, queue, prefetch, open: None, opening: None }
    }

    /// Consumes, on the connection that there is or the next one. Fails only when the bus is closed. Dropping the
    /// future loses nothing.
    pub(super) async fn open_tap(&mut self) -> Result<Arc<Tap>, BusError> {
        loop {
            if let Some(open) = self.open.as_ref().filter(|open| !open.tap.has_ended()) {
                return Ok(Arc::clone(&open.tap));
            }
            if let Some(change) = self.open.take().and_then(|ended| ended.tap.change()) {
                self.prefetch.apply(change);
                tracing::info!(queue = %self.queue, prefetch = self.prefetch.present(), ?change, "messages are of another size");
            }
            let Some(Opening { session, task }) = &mut self.opening else {
                let session = self.shared.consuming.session(None).await?;
                let tap = Tap::open(Arc::clone(&self.shared), Arc::clone(&session), self.queue, self.prefetch);
                self.opening = Some(Opening { session, task: tokio::spawn(tap) });
                continue;
            };
            let opened = task.await.map_err(|error| error.to_string());
            let session = Arc::clone(session);
            self.opening = None;
            match opened.and_then(|opened| opened.map_err(|error| error.to_string())) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    tracing::warn!(queue = %self.queue, error, "cannot consume at present");
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
