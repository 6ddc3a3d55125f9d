//! The bus of an installation of many processes: RabbitMQ, 3.10 or later.
//!
//! Two connections that heal themselves for ever ([`link`]), one to publish and one to consume. `names` says what is
//! declared. What each promise of the contract stands on:
//!
//! - **Confirmed is stored.** Quorum queues, persistent messages, and a confirm for each. What was in flight when a
//!   connection broke is published again under the same id (`publisher`).
//! - **Settled once.** A delivery belongs to the channel that brought it (`tap`). When that is gone the broker has the
//!   message again, and settling it fails. An acknowledgement counts when it is on the wire: one that is lost with its
//!   connection brings the message again.
//! - **Only a message's own failures are counted.** The count is a header. To retry is to publish to the queue's retry
//!   queue with the count raised, and to acknowledge when that is confirmed; to put off is the same with the count as it
//!   is. The broker's own limit (200) counts lost connections too, and what is released, and is only a backstop.
//! - **A kind that only a newer version knows waits for that version.** Its queue may have it while old and new run side
//!   by side: it is put off as it came, and a dead letter after a day (`tap`).
//! - **Bounded in bytes.** AMQP bounds what is sent ahead by messages; where they are large, a consumer asks for fewer
//!   (`prefetch`).
//! - **Depth.** `ready` and `delayed` are the broker's numbers; `unacknowledged` is this process's alone, since the
//!   broker tells it to nobody who consumes. A message that another process has in hand is in none of the three.

mod address;
mod broadcasts;
mod dead_letters;
mod envelope;
mod link;
mod names;
mod prefetch;
mod publisher;
mod session;
mod source;
mod tap;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream;
use lapin::options::BasicPublishOptions;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::address::Address;
use self::broadcasts::BROADCASTS_KEPT;
use self::envelope::Envelope;
use self::link::{Dialer, Link};
use self::names::Names;
use self::session::Session;
use self::source::RabbitSource;
use self::tap::Tap;
use crate::bus::{Bus, DeadLetter, Depth, check_publishable};
use crate::consumer::{Consumer, Subscription};
use crate::error::{BusError, PublishError};
use crate::message::Message;
use crate::topology::Queue;

/// What everything at the broker is named after, unless it is said otherwise.
pub const DEFAULT_PREFIX: &str = "carillon";

/// How long a question to the broker waits for a connection.
const ASKING_PATIENCE: Duration = Duration::from_secs(5);
/// How long closing waits for what is in hand, and then for what is being published.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);

/// The most unknown kinds that the log names.
const UNKNOWN_KINDS_MAX: usize = 100;

/// A bus that RabbitMQ carries.
pub struct RabbitMqBus {
    shared: Arc<Shared>,
}

/// What the bus shares with its consumers and with what they handed out.
struct Shared {
    names: Names,
    publishing: Link,
    consuming: Link,
    connected: watch::Receiver<bool>,
    /// Nothing is handed out any more.
    closing: CancellationToken,
    closed: CancellationToken,
    /// How many messages are handed out.
    in_hand: watch::Sender<usize>,
    /// How many publishes are on their way.
    in_flight: watch::Sender<usize>,
    taps: Mutex<Vec<Weak<Tap>>>,
    /// Kinds that this version does not know, and that the log has named.
    unknown_kinds: Mutex<HashSet<String>>,
    /// Who listens to broadcasts, once anybody does.
    listener: Mutex<Option<Listener>>,
}

#[derive(Clone)]
struct Listener {
    sender: broadcast::WeakSender<Message>,
    listening: watch::Receiver<bool>,
}

impl RabbitMqBus {
    /// Connects, and declares what is missing. A broker that cannot be reached is no error: the bus says that it is
    /// not [connected](Bus::connected), and goes on trying.
    ///
    /// `prefix` leads every name at the broker, so that several installations can share a virtual host.
    ///
    /// # Errors
    ///
    /// The URL is none, or the broker refuses: wrong credentials, an unknown virtual host, other things under the same
    /// names.
    pub async fn open(url: &str, prefix: &str) -> Result<Self, BusError> {
        let address = Address::parse(url)?;
        let names = Names::new(prefix);
        let dialer = |purpose: &str| Dialer {
            address: address.clone(),
            names: names.clone(),
            name: format!("{prefix} {purpose} (process {})", std::process::id()),
        };
        // One after the other, so that the first declares and the second finds it done.
        let publishing = Link::open(dialer("publishing")).await?;
        let consuming = Link::open(dialer("consuming")).await?;
        let connected = both(publishing.follow(), consuming.follow());
        let shared = Shared {
            names,
            publishing,
            consuming,
            connected,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            in_hand: watch::Sender::new(0),
            in_flight: watch::Sender::new(0),
            taps: Mutex::default(),
            unknown_kinds: Mutex::default(),
            listener: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    /// The connection for questions, if there is one soon.
    async fn asking(&self) -> Result<Arc<Session>, BusError> {
        self.open()?;
        self.consuming.session(Some(Instant::now() + ASKING_PATIENCE)).await
    }

    fn open(&self) -> Result<(), BusError> {
        if self.closed.is_cancelled() { Err(BusError::Closed) } else { Ok(()) }
    }

    fn add_tap(&self, tap: &Arc<Tap>) {
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| tap.strong_count() > 0);
        taps.push(Arc::downgrade(tap));
    }

    fn taps(&self, queue: Queue) -> Vec<Arc<Tap>> {
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        taps.iter().filter_map(Weak::upgrade).filter(|tap| tap.queue == queue).collect()
    }

    /// Whether such a message was not met before.
    fn is_first_of_kind(&self, kind: &str) -> bool {
        let mut kinds = self.unknown_kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.len() < UNKNOWN_KINDS_MAX && kinds.insert(kind.to_owned())
    }

    async fn publish(&self, envelopes: Vec<Envelope>) -> Result<(), BusError> {
        self.open()?;
        let _in_flight = Counted::one(&self.in_flight);
        publisher::publish(&self.publishing, envelopes).await
    }

    /// The listener, made when the first asks for it.
    fn listener(self: &Arc<Self>) -> (Listener, Option<broadcast::Sender<Message>>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            return (listener.clone(), listener.sender.upgrade());
        }
        let sender = broadcast::Sender::new(BROADCASTS_KEPT);
        let (says, listening) = watch::channel(false);
        let made = listener.insert(Listener { sender: sender.downgrade(), listening }).clone();
        let weak = Arc::downgrade(self);
        tokio::spawn(broadcasts::listen(weak, self.closed.clone(), sender.clone(), says));
        (made, Some(sender))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.cancel();
        self.closed.cancel();
    }
}

#[async_trait]
impl Bus for RabbitMqBus {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        check_publishable(&messages)?;
        let exchange = &self.shared.names.events;
        let envelopes = messages.iter().map(|message| Envelope::event(exchange.clone(), message)).collect();
        self.shared.publish(envelopes).await.map_err(publish_error)
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Consumer, BusError> {
        if self.shared.closing.is_cancelled() {
            return Err(BusError::Closed);
        }
        // Tells whether it works at present; later it heals by itself.
        self.shared.asking().await?;
        let prefetch = u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX);
        let mut source = RabbitSource::new(Arc::clone(&self.shared), queue, prefetch);
        let opened = self.shared.closing.run_until_cancelled(source.open_tap()).await;
        opened.unwrap_or(Err(BusError::Closed))?;
        Ok(Consumer::new(queue, Box::new(source)))
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.shared.open().map_err(publish_error)?;
        let deadline = Instant::now() + ASKING_PATIENCE;
        let session = self.shared.publishing.session(Some(deadline)).await.map_err(publish_error)?;
        let Envelope { exchange, routing_key, properties, body } =
            Envelope::event(self.shared.names.broadcast.clone(), &message);
        let options = BasicPublishOptions::default();
        let sent = async {
            // Nothing is sent meanwhile.
            let _ = session.blocked.clone().wait_for(|blocked| !blocked).await;
            session.control.basic_publish(exchange, routing_key, options, &body, properties).await
        };
        let Ok(sent) = tokio::time::timeout_at(deadline.into(), sent).await else {
            return Err(PublishError::Unavailable("the broker takes nothing at present".into()));
        };
        sent.map(drop).map_err(|error| PublishError::Unavailable(error.into()))
    }

    async fn subscribe(&self) -> Result<Subscription, BusError> {
        self.shared.open()?;
        let (listener, sender) = self.shared.listener();
        let receiver = sender.ok_or(BusError::Closed)?.subscribe();
        let mut listening = listener.listening;
        let heard = tokio::time::timeout(ASKING_PATIENCE, listening.wait_for(|listening| *listening)).await;
        match heard {
            Ok(Ok(_)) => Ok(Subscription::new(Box::pin(stream::unfold(receiver, next_broadcast)))),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Unavailable("there is no connection to listen on".into())),
        }
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BusError> {
        let shared = &self.shared;
        let session = shared.asking().await?;
        let failed = |error| dead_letters::failed(&session, error);
        let delayed = || dead_letters::counts(&session, shared.names.retries(queue));
        // In the direction in which messages go, and round: whatever goes on meanwhile is seen at least once.
        let delayed_before = delayed().await.map_err(failed)?;
        let ready = dead_letters::counts(&session, [shared.names.queue(queue)]).await.map_err(failed)?;
        let mut unacknowledged = 0;
        for tap in shared.taps(queue) {
            unacknowledged += tap.unsettled().await as u64;
        }
        let delayed_after = delayed().await.map_err(failed)?;
        Ok(Depth { ready, unacknowledged, delayed: delayed_before.max(delayed_after) })
    }

    async fn dead_letters(&self, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        dead_letters::list(&self.shared, queue, limit).await
    }

    async fn requeue_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        dead_letters::requeue(&self.shared, queue).await
    }

    async fn discard_dead_letters(&self, queue: Queue) -> Result<u64, BusError> {
        dead_letters::discard(&self.shared, queue).await
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.clone()
    }

    async fn close(&self) {
        let shared = &self.shared;
        shared.closing.cancel();
        let nothing = |count: &watch::Sender<usize>| {
            let mut count = count.subscribe();
            async move {
                let _ = tokio::time::timeout(CLOSING_PATIENCE, count.wait_for(|count| *count == 0)).await;
            }
        };
        nothing(&shared.in_hand).await;
        shared.closed.cancel();
        nothing(&shared.in_flight).await;
        futures::join!(shared.publishing.close(), shared.consuming.close());
    }
}

impl fmt::Debug for RabbitMqBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqBus").finish_non_exhaustive()
    }
}

/// Counts one for as long as it lives.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn one(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn publish_error(error: BusError) -> PublishError {
    match error {
        BusError::Unavailable(cause) => PublishError::Unavailable(cause),
        _ => PublishError::Closed,
    }
}

/// Whether both are true, followed for as long as they are.
fn both(mut one: watch::Receiver<bool>, mut other: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (sender, both) = watch::channel(*one.borrow() && *other.borrow());
    tokio::spawn(async move {
        loop {
            let now = *one.borrow_and_update() && *other.borrow_and_update();
            sender.send_if_modified(|both| std::mem::replace(both, now) != now);
            tokio::select! {
                changed = one.changed() => if changed.is_err() { break },
                changed = other.changed() => if changed.is_err() { break },
                () = sender.closed() => return,
            }
        }
        sender.send_replace(false);
    });
    both
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
