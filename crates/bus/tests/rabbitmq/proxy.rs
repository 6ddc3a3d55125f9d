//! A way to the broker that a test can cut or freeze.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forwarding,
    /// Connections stay open, and nothing gets through.
    Frozen,
    /// Nothing and nobody gets through.
    Cut,
}

/// Forwards connections to the broker.
pub struct Proxy {
    pub address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Forwarding));
        let followed = mode.subscribe();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, counted) = (followed.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    forward(client, target, mode).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, mode, connections }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Ends every connection as the death of the process would: what it has written still arrives, what comes back
    /// does not. Refuses new ones until [`Proxy::mend`].
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Lets nothing through, in either direction, and closes nothing.
    pub fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.mode.send_replace(Mode::Forwarding);
    }
}

async fn forward(client: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(broker) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::select! {
        () = pump(from_broker, to_client, mode.clone(), false) => {}
        () = pump(from_client, to_broker, mode, true) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    to_the_end: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    // A connection that was cut once stays so.
    let mut cut = false;
    loop {
        let now = *mode.borrow_and_update();
        cut |= now == Mode::Cut;
        if cut && !to_the_end {
            return std::future::pending().await;
        }
        if now == Mode::Frozen {
            let _ = mode.changed().await;
            continue;
        }
        let patience = if cut { Duration::from_millis(20) } else { Duration::MAX };
        tokio::select! {
            biased;
            read = from.read(&mut buffer) => match read {
                Ok(read) if read > 0 => if to.write_all(&buffer[..read]).await.is_err() { return },
                _ => return,
            },
            _ = mode.changed() => {}
            () = tokio::time::sleep(patience) => return,
        }
    }
}
