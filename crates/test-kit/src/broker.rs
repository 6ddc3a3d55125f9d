//! The broker that a test runs on: names of its own at the RabbitMQ that `CARILLON_TEST_AMQP_URL` names.

use std::sync::atomic::{AtomicBool, Ordering};

use bus::Queue;
use bus::rabbitmq::RabbitMqBus;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};

/// The server that queues are made on.
const AMQP_URL: &str = "CARILLON_TEST_AMQP_URL";
/// What each queue has beside itself.
const COMPANIONS: [&str; 6] = ["", ".dead", ".retry.1s", ".retry.8s", ".retry.64s", ".retry.1h"];

/// The names of one test at the broker, removed with it.
#[derive(Debug)]
pub(crate) struct Broker {
    url: String,
    prefix: String,
    used: AtomicBool,
}

impl Broker {
    /// That of the environment, if it names one.
    pub(crate) fn of_environment() -> Option<Self> {
        let url = std::env::vars().find(|(name, _)| name == AMQP_URL).map(|(_, url)| url)?;
        Some(Self { used: AtomicBool::new(false), url, prefix: format!("test-{}", uuid::Uuid::new_v4().simple()) })
    }

    pub(crate) async fn bus(&self) -> RabbitMqBus {
        self.used.store(true, Ordering::Relaxed);
        let bus = RabbitMqBus::open(&self.url, &self.prefix).await;
        bus.unwrap_or_else(|error| panic!("no bus: {error}"))
    }

    async fn remove(url: String, prefix: String) -> lapin::Result<()> {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let names = Queue::ALL.into_iter().flat_map(|queue| COMPANIONS.map(|end| format!("{prefix}.{queue}{end}")));
        let removed = names.map(|name| channel.queue_delete(name.into(), QueueDeleteOptions::default()));
        futures::future::try_join_all(removed).await?;
        for name in ["by-kind", "broadcast", "dead-letters"] {
            channel.exchange_delete(format!("{prefix}.{name}").into(), ExchangeDeleteOptions::default()).await?;
        }
        connection.close(200, "removed".into()).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.used.load(Ordering::Relaxed) {
            return;
        }
        let removal = Self::remove(self.url.clone(), self.prefix.clone());
        // A thread of its own: the test's runtime is busy dropping this.
        let removed = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(removal).map_err(|error| error.to_string())
        });
        // A busy broker may give up removing a queue. What stays is no fault of the test.
        if let Err(error) = removed.join().unwrap_or_else(|_| Err("a panic".to_owned())) {
            eprintln!("the queues of a test stay: {error}");
        }
    }
}
