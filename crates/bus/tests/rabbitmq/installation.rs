//! A bus at the broker of the tests, under names of its own, so that tests run side by side.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bus::rabbitmq::RabbitMqBus;
use bus::{Bus, Queue};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::contract::Installation;
use crate::proxy::Proxy;

const URL_VARIABLE: &str = "CARILLON_TEST_AMQP_URL";

/// The URL of the broker for tests.
pub fn url() -> String {
    std::env::var_os(URL_VARIABLE)
        .unwrap_or_else(|| {
            panic!("{URL_VARIABLE} is not set: run `make test`, or eval \"$(deploy/local/services.sh env)\" first")
        })
        .into_string()
        .unwrap()
}

/// The same URL with another host and port.
pub fn url_at(address: SocketAddr) -> String {
    let url = url();
    let (start, rest) = url.split_once('@').unwrap();
    let (_, vhost) = rest.split_once('/').unwrap();
    format!("{start}@{address}/{vhost}")
}

/// Where the broker is.
pub fn broker() -> SocketAddr {
    let uri: AMQPUri = url().parse().unwrap();
    format!("{}:{}", uri.authority.host, uri.authority.port).parse().unwrap()
}

pub struct RabbitMqInstallation {
    pub prefix: String,
    pub proxy: Mutex<Arc<Proxy>>,
}

impl RabbitMqInstallation {
    pub fn proxy(&self) -> Arc<Proxy> {
        Arc::clone(&self.proxy.lock().unwrap())
    }

    pub async fn open_bus(&self) -> RabbitMqBus {
        RabbitMqBus::open(&url_at(self.proxy().address), &self.prefix).await.unwrap()
    }

    /// A connection past the proxy.
    pub async fn connect(&self) -> Connection {
        Connection::connect(&url(), ConnectionProperties::default()).await.unwrap()
    }

    /// What a queue and its companions are called.
    pub fn queues(&self, queue: Queue) -> Vec<String> {
        let main = format!("{}.{queue}", self.prefix);
        let companions = ["dead", "retry.1s", "retry.8s", "retry.64s", "retry.1h"];
        let companions = companions.map(|suffix| format!("{main}.{suffix}"));
        [main].into_iter().chain(companions).collect()
    }
}

#[async_trait]
impl Installation for RabbitMqInstallation {
    async fn new() -> Self {
        // Shown for a test that fails.
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("info,lapin=debug").try_init();
        let prefix = format!("test-{}", uuid::Uuid::new_v4().simple());
        Self { prefix, proxy: Mutex::new(Arc::new(Proxy::start(broker()).await)) }
    }

    async fn open(&self) -> Arc<dyn Bus> {
        Arc::new(self.open_bus().await)
    }

    async fn crash_and_reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        self.proxy().cut();
        *self.proxy.lock().unwrap() = Arc::new(Proxy::start(broker()).await);
        let reopened = self.open().await;
        drop(bus);
        reopened
    }
}

/// Removes everything that the test left at the broker.
impl Drop for RabbitMqInstallation {
    fn drop(&mut self) {
        let queues: Vec<String> = Queue::ALL.into_iter().flat_map(|queue| self.queues(queue)).collect();
        let exchanges = ["by-kind", "broadcast", "dead-letters"].map(|name| format!("{}.{name}", self.prefix));
        let remove = async move {
            let connection = Connection::connect(&url(), ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let queues =
                queues.into_iter().map(|name| channel.queue_delete(name.into(), QueueDeleteOptions::default()));
            futures::future::try_join_all(queues).await?;
            for name in exchanges {
                channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
            }
            connection.close(200, "removed".into()).await
        };
        // A thread of its own: the test's runtime is busy dropping this.
        let removed = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(remove)
        });
        if let Err(error) = removed.join().unwrap() {
            eprintln!("cannot remove the queues of a test: {error}");
        }
    }
}
