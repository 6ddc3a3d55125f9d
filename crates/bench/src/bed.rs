//! What is measured: microservices as processes of their own over PostgreSQL and RabbitMQ, and the bench in the place
//! of those that are not started.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, Message};
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use model::event::Event;
use service_kit::clock::Clock;
use service_kit::config::SecretsConfig;
use service_kit::secrets::KeyRing;
use test_kit::{Plan, Stack};

/// How the microservices are configured beyond what they need to find one another.
pub(crate) type Settings = Vec<(&'static str, &'static str, String)>;

/// All there are.
const MICROSERVICES: [&str; 5] =
    ["agent-registry", "cron-dispatcher", "agent-runner", "callback-deliverer", "service-registry"];

const ANALYSE: &str = "
    DO $$
    DECLARE filled regclass;
    BEGIN
        FOR filled IN SELECT relid FROM pg_stat_user_tables WHERE pg_relation_size(relid) > 0 LOOP
            EXECUTE format('ANALYZE %s', filled);
        END LOOP;
    END $$";

/// Messages published in one call, as a dispatcher does.
const PUBLISH_MAX: usize = 500;

/// A part of Carillon, and its bus.
pub(crate) struct Bed {
    pub(crate) stack: Stack,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
}

impl Bed {
    /// Starts one of each of these microservices, in an installation of their own.
    pub(crate) async fn start(
        binaries: &Path,
        microservices: &[&'static str],
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let quiet = microservices.iter().map(|name| (*name, "TELEMETRY__LOG", "warn".to_owned()));
        let plan = Plan {
            binaries: binaries.to_owned(),
            replicas: microservices.iter().map(|name| (*name, 1)).collect(),
            clock_rate: 1,
            settings: quiet.chain(settings).collect(),
        };
        let stack = Stack::start(plan).await?;
        let bus = bus::open(&stack.services().amqp_url(stack.virtual_host())).await?;
        Ok(Self { stack, bus, clock: Clock::host() })
    }

    /// The broker, in the virtual host of this installation.
    pub(crate) fn amqp_url(&self) -> String {
        self.stack.services().amqp_url(self.stack.virtual_host())
    }

    /// The keys that secrets are sealed with.
    pub(crate) fn key_ring(&self) -> anyhow::Result<KeyRing> {
        let variable = self.stack.replicas("callback-deliverer").first();
        let keys = variable.and_then(|replica| replica.variable("CARILLON__SECRETS__KEYS")).context("no keys")?;
        Ok(KeyRing::parse(&SecretsConfig { keys: keys.to_owned().into() })?)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Publishes events, many at a time.
    pub(crate) async fn publish<E: Event>(&self, events: impl IntoIterator<Item = E>) -> anyhow::Result<()> {
        let events = events.into_iter().map(|event| Message::new(E::KIND, "bench", self.now(), event.encode()));
        let messages: Vec<Message> = events.collect();
        for piece in messages.chunks(PUBLISH_MAX) {
            self.bus.publish(piece.to_vec()).await?;
        }
        Ok(())
    }

    /// Has PostgreSQL count what is there, as it does by itself within a minute: what is prepared while tables are empty
    /// reads them from end to end until then. Not the tables that are empty still: they would count as small for ever.
    pub(crate) fn analyse(&self) -> anyhow::Result<()> {
        // Runners keep nothing.
        for name in MICROSERVICES.iter().filter(|name| **name != "agent-runner") {
            PgConnection::establish(self.stack.database(name))?.batch_execute(ANALYSE)?;
        }
        Ok(())
    }

    /// Waits until a statement finds `wanted` in the database of a microservice.
    pub(crate) async fn counted(
        &self,
        name: &str,
        statement: &str,
        wanted: i64,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let mut found = 0;
        let looking = async {
            while found < wanted {
                found = self.stack.query(name, statement).await?.first().copied().unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        let looked = tokio::time::timeout(patience, looking).await;
        looked.with_context(|| format!("{name}: `{statement}` does not find {wanted} within {patience:?}"))??;
        ensure!(found >= wanted, "{name}: `{statement}` found {found}, not {wanted}");
        Ok(())
    }

    /// Stops everything as SIGTERM does, and removes what it left at the broker.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.bus.close().await;
        for name in MICROSERVICES {
            if !self.stack.replicas(name).is_empty() {
                let code = self.stack.replica(name, 1).stop().await?;
                ensure!(code == Some(0), "{name} ended with {code:?}");
            }
        }
        self.stack.services().broker(&["delete_vhost", self.stack.virtual_host()]).await?;
        Ok(())
    }
}
