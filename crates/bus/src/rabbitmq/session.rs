//! One connection to the broker, from its handshake to its end. Nothing of it outlives it: whoever used it asks the
//! [`Link`](super::link::Link) for the next one.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::TokioRuntime;
use futures::StreamExt;
use futures::future::try_join_all;
use lapin::options::ConfirmSelectOptions;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::names::Names;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to declare everything, the first time at a busy broker.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a connection is looked at that said nothing. Its own events come at once; this is for what has none.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a good end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The broker works on each channel with one process, so that several use more of its cores.
const PUBLISHING_CHANNELS: usize = 4;

/// A channel that confirms what is published.
pub(super) struct PublishingChannel {
    pub(super) channel: Channel,
    /// Held while frames are handed over: the library numbers a message before it queues it, and another task could
    /// come in between.
    pub(super) starting: Mutex<()>,
}

/// An open connection with the channels that everybody shares.
pub(super) struct Session {
    pub(super) connection: Connection,
    /// For declaring, asking and broadcasting.
    pub(super) control: Channel,
    /// For publishing with confirms.
    publishing: Vec<PublishingChannel>,
    turn: AtomicUsize,
    /// Whether the broker takes nothing at present (an alarm of its disk or memory).
    pub(super) blocked: watch::Receiver<bool>,
    /// One purge or move of dead letters at a time.
    pub(super) moving: AsyncMutex<()>,
    cutter: Arc<Cutter>,
    broken: CancellationToken,
}

impl Session {
    /// Connects, and declares what is missing.
    pub(super) async fn open(address: &Address, names: &Names, name: &str) -> Result<Arc<Self>, OpenError> {
        let cutter = Arc::new(Cutter::default());
        let opening = connect(address.uri(), name, Arc::clone(&cutter));
        let connection = in_time(HANDSHAKE_TIMEOUT, opening, &cutter).await?;
        let declaring = async {
            let control = connection.create_channel().await?;
            names.declare(&control).await?;
            let publishing = (0..PUBLISHING_CHANNELS).map(async |_| {
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                lapin::Result::Ok(PublishingChannel { channel, starting: Mutex::default() })
            });
            Ok((control, try_join_all(publishing).await?))
        };
        let (control, publishing) = in_time(DECLARE_TIMEOUT, declaring, &cutter).await?;
        let broken = CancellationToken::new();
        let blocked = watch_events(&connection, broken.clone());
        let (turn, moving) = (AtomicUsize::default(), AsyncMutex::default());
        Ok(Arc::new(Self { connection, control, publishing, turn, blocked, moving, cutter, broken }))
    }

    /// The channel whose turn it is.
    pub(super) fn publishing(&self) -> &PublishingChannel {
        &self.publishing[self.turn.fetch_add(1, Ordering::Relaxed) % PUBLISHING_CHANNELS]
    }

    /// Says that something about this connection is wrong, so that the next one takes its place.
    pub(super) fn give_up(&self, reason: &str) {
        if !self.broken.is_cancelled() {
            tracing::warn!(reason, "giving up this connection to the broker");
            self.broken.cancel();
        }
    }

    /// Waits until the connection is of no use any more.
    pub(super) async fn ended(&self) {
        loop {
            let looked = tokio::time::timeout(LOOK_INTERVAL, self.broken.cancelled()).await;
            let channels = self.publishing.iter().map(|publishing| &publishing.channel).chain([&self.control]);
            let channels = channels.into_iter().all(|channel| channel.status().connected());
            if looked.is_ok() || !self.connection.status().connected() || !channels {
                self.broken.cancel();
                return;
            }
        }
    }

    /// Ends the connection: what is on its way is sent, as long as that works.
    pub(super) async fn close(&self) {
        let closing = self.connection.close(200, "closed".into());
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        self.broken.cancel();
        self.cutter.cut();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.broken.cancel();
    }
}

/// Cuts the connection if the broker does not answer: the library's thread would wait for ever.
async fn in_time<T>(
    patience: Duration,
    opening: impl Future<Output = lapin::Result<T>>,
    cutter: &Cutter,
) -> Result<T, OpenError> {
    match tokio::time::timeout(patience, opening).await {
        Ok(result) => result.map_err(OpenError::Failed),
        Err(_) => {
            cutter.cut();
            Err(OpenError::Silent)
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the broker does not answer")]
    Silent,
    #[error(transparent)]
    Failed(lapin::Error),
}

/// Cuts a connection that does not end by itself.
#[derive(Default)]
struct Cutter(Mutex<Option<TcpStream>>);

impl Cutter {
    fn hold(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that it has ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Without the library's own recovery: it would go on with delivery tags of the old connection, which name other
/// messages on the new one.
async fn connect(uri: AMQPUri, name: &str, cutter: Arc<Cutter>) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "Carillon".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let open_stream = async move |uri: AMQPUri, runtime: TokioRuntime| {
        silence_this_thread();
        let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
        let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
        if let AsyncTcpStream::Plain(tcp) = &stream {
            tcp.get_ref().set_nodelay(true)?;
            cutter.hold(tcp.get_ref().as_fd().try_clone_to_owned()?.into());
        }
        match uri.scheme {
            AMQPScheme::AMQP => Ok(stream),
            AMQPScheme::AMQPS => {
                let tls = stream.into_tls(&uri.authority.host, TLSConfig::default()).await;
                Ok(tls.map_err(|error| io::Error::other(format!("TLS: {error}")))?)
            }
        }
    };
    Connection::connector(uri, lapin::runtime::default_runtime()?, open_stream, properties).await
}

/// The library's thread logs messages that come back from the broker, with their bodies, and says nothing else that
/// the callers do not hear.
fn silence_this_thread() {
    std::mem::forget(tracing::dispatcher::set_default(&tracing::Dispatch::none()));
}

/// Follows what the connection says of itself.
fn watch_events(connection: &Connection, broken: CancellationToken) -> watch::Receiver<bool> {
    let (blocked, receiver) = watch::channel(connection.status().blocked());
    let mut events = Box::pin(connection.events_listener());
    tokio::spawn(async move {
        while let Some(Some(event)) = broken.run_until_cancelled(events.next()).await {
            match event {
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(reason, "the broker takes no messages at present");
                    blocked.send_replace(true);
                }
                Event::ConnectionUnblocked => {
                    tracing::info!("the broker takes messages again");
                    blocked.send_replace(false);
                }
                Event::Error(_) => broken.cancel(),
                _ => {}
            }
        }
        broken.cancel();
    });
    receiver
}
