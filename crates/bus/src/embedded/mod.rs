//! The bus of an installation that is one process: a SQLite file of its own.
//!
//! One thread owns the file (`writer`); publishers and consumers ask it over a channel and are answered after the
//! commit. Memory holds some bytes per message (`index`), never the bodies.
//!
//! **Leases are kept in memory only.** The file is locked to one process (`file`), so nothing that is handed out can
//! outlive the process that has it: at opening, every message in the file is in nobody's hand. Only publishes, acks,
//! retries (failures and the next turn) and dead letters are written.

mod change;
mod command;
mod file;
#[cfg(test)]
mod full_disk;
mod index;
mod store;
mod tables;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};

use self::command::{Change, Command, Reply, Take, Write};
use self::index::ConsumerId;
use self::store::Store;
use self::writer::Writer;
use crate::bus::{Bus, DeadLetter, Depth, check_publishable};
use crate::consumer::{Consumer, Delivery, Settlement, Settler, Source, Subscription};
use crate::error::{BusError, PublishError};
use crate::message::Message;
use crate::topology::Queue;

/// How many broadcasts a slow listener may lag behind before it misses the oldest.
const BROADCASTS_KEPT: usize = 4096;

/// The most that RabbitMQ knows; what fits one implementation must fit the other.
const PREFETCH_MAX: usize = 65_535;

/// A bus in a SQLite file, for one process.
pub struct EmbeddedBus {
    commands: mpsc::Sender<Command>,
    /// Taken when the bus is closed, which ends the subscriptions.
    broadcasts: Mutex<Option<broadcast::Sender<Message>>>,
    next_consumer: AtomicU64,
}

impl EmbeddedBus {
    /// Opens the file, or makes it in a directory that exists. Blocks while the file is checked and read.
    ///
    /// # Errors
    ///
    /// Another process has it, it is damaged, was written by a newer version, or cannot be opened at all. Every error
    /// says what to do.
    pub fn open(path: &Path) -> Result<Self, BusError> {
        let (conn, lock) = file::open(path)?;
        let store = Store::new(conn).map_err(|error| file::explain(path, error))?;
        let writer = Writer::load(store, host_now).map_err(|error| file::explain(path, error))?;
        let (commands, inbox) = mpsc::channel();
        let run = move || {
            let waiting = writer.run(&inbox);
            // The file is closed by now. Only then may another process have it, and whoever waits hear of it.
            drop(lock);
            for reply in waiting {
                let _ = reply.send(());
            }
        };
        thread::Builder::new()
            .name("embedded-bus".into())
            .spawn(run)
            .map_err(|source| BusError::Open { path: path.to_owned(), source: source.into() })?;
        let broadcasts = Mutex::new(Some(broadcast::Sender::new(BROADCASTS_KEPT)));
        Ok(Self { commands, broadcasts, next_consumer: AtomicU64::new(0) })
    }

    async fn change(&self, change: Change) -> Result<u64, BusError> {
        ask(&self.commands, |reply| Command::Write(Write { change, reply })).await
    }

    fn broadcasts(&self) -> Option<broadcast::Sender<Message>> {
        self.broadcasts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        check_publishable(&messages)?;
        if messages.is_empty() {
            return Ok(());
        }
        match self.change(Change::Publish(messages)).await {
            Ok(_) => Ok(()),
            Err(BusError::Unavailable(cause)) => Err(PublishError::Unavailable(cause)),
            Err(_) => Err(PublishError::Closed),
        }
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Consumer, BusError> {
        // The thread needs to know nothing yet; asking it anything tells whether the bus is closed.
        self.depth(queue).await?;
        let source = EmbeddedSource {
            consumer: self.next_consumer.fetch_add(1, Ordering::Relaxed),
            queue,
            prefetch: prefetch.clamp(1, PREFETCH_MAX),
            settler: Arc::new(EmbeddedSettler { queue, commands: self.commands.clone() }),
        };
        Ok(Consumer::new(queue, Box::new(source)))
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        let broadcasts = self.broadcasts().ok_or(PublishError::Closed)?;
        // Fails only if nobody listens, which is no failure.
        let _ = broadcasts.send(message);
        Ok(())
    }

    async fn subscribe(&self) -> Result<Subscription, BusError> {
        let receiver = self.broadcasts().ok_or(BusError::Closed)?.subscribe();
        Ok(Subscription::new(Box::pin(stream::unfold(receiver, next_broadcast))))
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BusError> {
        ask(&self.commands, |reply| Command::Depth { queue, reply }).await
    }

    async fn dead_letters(&self, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        ask(&self.commands, |reply| Command::DeadLetters { queue, limit, reply }).await
    }

    async fn requeue_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.change(Change::RequeueDeadLetters(queue)).await
    }

    async fn discard_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        self.change(Change::DiscardDeadLetters(queue)).await
    }

    async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).is_ok() {
            // An error means that it was closed in the meantime.
            let _ = closed.await;
        }
        self.broadcasts.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for EmbeddedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus").finish_non_exhaustive()
    }
}

/// Asks the thread and waits for its answer. No answer means that the thread has ended.
async fn ask<T>(commands: &mpsc::Sender<Command>, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BusError> {
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).map_err(|_| BusError::Closed)?;
    answer.await.map_err(|_| BusError::Closed)?.map_err(BusError::Unavailable)
}

async fn next_broadcast(mut receiver: broadcast::Receiver<Message>) -> Option<(Message, broadcast::Receiver<Message>)> {
    loop {
        match receiver.recv().await {
            Ok(message) => return Some((message, receiver)),
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "listener too slow, broadcasts missed"),
            Err(RecvError::Closed) => return None,
        }
    }
}

struct EmbeddedSource {
    consumer: ConsumerId,
    queue: Queue,
    prefetch: usize,
    settler: Arc<EmbeddedSettler>,
}

#[async_trait]
impl Source for EmbeddedSource {
    async fn next_batch(&mut self, max: usize, max_bytes: usize) -> Option<Vec<Delivery>> {
        let (reply, deliveries) = oneshot::channel();
        let take = Take {
            consumer: self.consumer,
            queue: self.queue,
            prefetch: self.prefetch,
            max,
            max_bytes,
            settler: Arc::clone(&self.settler) as Arc<dyn Settler>,
            reply,
        };
        self.settler.commands.send(Command::Take(take)).ok()?;
        deliveries.await.ok()
    }
}

impl Drop for EmbeddedSource {
    fn drop(&mut self) {
        // Fails only if the bus is closed, which has forgotten everybody.
        let _ = self.settler.commands.send(Command::Forget(self.consumer));
    }
}

struct EmbeddedSettler {
    queue: Queue,
    commands: mpsc::Sender<Command>,
}

#[async_trait]
impl Settler for EmbeddedSettler {
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), BusError> {
        let change = Change::Settle { queue: self.queue, settlements };
        ask(&self.commands, |reply| Command::Write(Write { change, reply })).await.map(drop)
    }

    fn give_back(&self, tag: u64) {
        let _ = self.commands.send(Command::GiveBack { queue: self.queue, id: tag.cast_signed() });
    }
}

/// The one place where the embedded bus asks the host for the time: retries wait in real time, whatever clock the
/// schedules follow.
fn host_now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "a retry's delay is real time, and must pass while carillon is down")]
    Utc::now()
}
