//! A TCP proxy that can stop forwarding: what a network does that swallows packets.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to one address, until the runtime ends.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: SocketAddr,
    forwards: watch::Sender<bool>,
}

impl Proxy {
    /// Starts to forward to `target`, as `127.0.0.1:5672`.
    ///
    /// # Errors
    ///
    /// The host has no free port.
    pub async fn start(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, forwards) = (listener.local_addr()?, watch::Sender::new(true));
        let (target, follow) = (target.to_owned(), forwards.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target.clone(), follow.clone()));
            }
        });
        Ok(Self { address, forwards })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it takes everything, and nothing comes out: no bytes, no end.
    pub fn swallow(&self) {
        self.forwards.send_replace(false);
    }

    /// What was swallowed stays lost, with its connections; new ones work.
    pub fn forward(&self) {
        self.forwards.send_replace(true);
    }
}

async fn connect(client: TcpStream, target: String, forwards: watch::Sender<bool>) {
    let mut follow = forwards.subscribe();
    // A network that is silent: the connection stands, and leads nowhere yet.
    let _ = follow.wait_for(|forwards| *forwards).await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(pump(from_client, to_server, forwards.subscribe()), pump(from_server, to_client, follow));
}

/// Forwards until one side ends. Once bytes were swallowed, the connection ends when the proxy forwards again: what
/// came after a gap would be another stream.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut forwards: watch::Receiver<bool>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = forwards.wait_for(|forwards| !forwards) => break,
        };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
    let _ = forwards.wait_for(|forwards| *forwards).await;
}
