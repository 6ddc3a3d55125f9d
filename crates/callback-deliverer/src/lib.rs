//! callback-deliverer: brings each result to its endpoint, signed, until its receiver has it or is visibly without.
//!
//! It owns endpoints (agents' callback URLs and sealed secrets), deliveries (one result on its way, its body and
//! webhook id fixed for ever) and their delivery attempts. It hears `document.changed` and `runs.finished`, answers
//! `documents.held` and `runs.held`, and POSTs to tenants.
//!
//! What holds, and where it is made true:
//!
//! - A result is committed before it is said to be held (`consumers::runs`), tried at once, and retried from the
//!   database by [`schedule`]; what failed for the last time stays as `exhausted`.
//! - Delivery is at least once, and every repeat carries the same webhook id and the same bytes ([`payload`]).
//! - Each delivery attempt goes to the endpoint as it is held when it is leased (`store::claim`).
//! - A dead replica's leases are free within seconds, a frozen one does no harm ([`replica`]).
//! - No receiver takes the room of its neighbours ([`lanes`]).
//! - What does not arrive is told: endpoints are failing, then warned of, then disabled, and what is due for them is
//!   held, never dropped (`store::states`).
//! - What came of a delivery attempt is written only while its lease holds; final states absorb (`store::record`).
//! - What is settled is kept for `callbacks.deliveries_days`, then forgotten ([`sweep`]).
//! - An outage of the database, the bus or a missing key counts against nobody: not ready, then on where it stopped.

mod config;
mod consumers;
mod core;
mod delivery_attempt;
mod doctor;
mod drain;
pub mod encryption;
mod http;
mod lanes;
mod log_link;
mod measure;
mod metrics;
pub mod outcome;
pub mod payload;
mod replica;
pub mod schedule;
mod schema;
mod secrets;
mod sender;
pub mod signature;
mod store;
mod sweep;
mod transport;
pub mod warning;
pub mod webhook_id;
pub mod words;

use std::sync::Arc;

use actix_web::web::ServiceConfig;
use anyhow::Context;
use bus::{Bus, ConsumeOptions, Queue, run_consumer};
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::DatabaseConfig;
use service_kit::database::{Backend, DatabaseError, Db};
use service_kit::egress::Guard;
use service_kit::process::Microservice;
use service_kit::secrets::KeyRing;
use service_kit::supervise::Role;
use service_kit::traces::Traces;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

pub use crate::metrics::METRICS;
pub use config::Config;
pub use signature::verify_signature;
pub use store::migrations;

use crate::consumers::documents::Documents;
use crate::consumers::runs::Runs;
use crate::core::Core;
use crate::lanes::{Lanes, Limits};
use crate::log_link::LogLinks;
use crate::replica::Replica;
use crate::secrets::Secrets;
use crate::transport::Transport;

/// What the deliverer is given.
pub struct Dependencies {
    /// Its own database.
    pub database: DatabaseConfig,
    /// Carries messages.
    pub bus: Arc<dyn Bus>,
    /// Tells the time.
    pub clock: Clock,
    /// Hears whether it can do its work.
    pub readiness: Readiness,
    /// Opens callback secrets, and signs links to logs.
    pub keys: KeyRing,
    /// How clients reach the API, for those links.
    pub public_url: Option<Url>,
    /// Where spans go.
    pub traces: Traces,
}

/// The microservice. Clones are the same one.
#[derive(Clone)]
pub struct CallbackDeliverer {
    core: Arc<Core>,
    readiness: Readiness,
}

impl CallbackDeliverer {
    /// Opens and migrates its database, and finds or makes the name of the installation.
    ///
    /// # Errors
    ///
    /// The database cannot be opened, or the TLS library cannot start.
    pub async fn open(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { database, bus, clock, readiness, keys, public_url, traces } = dependencies;
        let db = Db::open_by_index(&database, store::migrations())
            .await
            .context("cannot open callback-deliverer's database")?;
        let installation = prepare(&db).await?;
        let replica = Replica::begin(&db).await?;
        let limits = Limits { in_flight_max: config.in_flight_max, body_bytes_max: config.body_bytes_max() };
        let (deadline, deliveries_kept) = (config.deadline(), config.deliveries_kept());
        let transport = Transport::new(&Guard::new(config.allow_networks), deadline)?;
        let core = Core {
            db,
            bus,
            clock,
            traces,
            installation,
            replica,
            lanes: Lanes::new(limits),
            due: Notify::new(),
            enabled: Notify::new(),
            links: Arc::new(LogLinks::new(public_url, keys.clone())),
            secrets: Secrets::new(keys, readiness.condition("callback-deliverer.keys")),
            transport,
            deadline,
            deliveries_kept,
        };
        Ok(Self { core: Arc::new(core), readiness })
    }

    /// What is served under `/internal`, for those with an internal token.
    pub fn internal_routes(&self) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
        let core = Arc::clone(&self.core);
        move |config| http::routes(config, Arc::clone(&core))
    }

    /// The whole of it, for a process to run.
    pub fn microservice(&self, shutdown: CancellationToken) -> Microservice {
        Microservice {
            name: core::NAME,
            routes: None,
            internal_routes: Some(Arc::new(self.internal_routes())),
            roles: self.roles(shutdown),
            metrics: &[METRICS, bus::METRICS],
            examine: Some({
                let core = Arc::clone(&self.core);
                service_kit::doctor::examine(move || doctor::examine(Arc::clone(&core)))
            }),
            drain: self.core.deadline,
        }
    }

    /// Its parts, which run until `shutdown`. On shutdown they take nothing new, and finish and record what is in
    /// flight.
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        // Ends when the consumer of runs ends, and then what it handed over is tried before the sender ends.
        let (fresh, taken_in) = mpsc::unbounded_channel();
        let documents = Documents { core: Arc::clone(&self.core) };
        let runs = Runs { core: Arc::clone(&self.core), fresh };
        let sender = sender::run(
            Arc::clone(&self.core),
            taken_in,
            self.readiness.condition("callback-deliverer.sender"),
            shutdown.clone(),
        );
        vec![
            self.consumer("documents", Queue::CallbackDelivererDocuments, documents, shutdown.clone()),
            self.consumer("runs", Queue::CallbackDelivererRuns, runs, shutdown.clone()),
            Role::new("callback-deliverer.measure", measure::run(Arc::clone(&self.core), shutdown.clone())),
            Role::new("callback-deliverer.sweep", sweep::run(Arc::clone(&self.core), shutdown.clone())),
            Role::new("callback-deliverer.drain", drain::run(Arc::clone(&self.core), shutdown.clone())),
            self.database(shutdown),
            Role::new("callback-deliverer.sender", async move {
                sender.await;
                Ok(())
            }),
        ]
    }

    fn database(&self, shutdown: CancellationToken) -> Role {
        let name = "callback-deliverer.database";
        let (core, condition) = (Arc::clone(&self.core), self.readiness.condition(name));
        Role::new(name, async move {
            core.db.watch(condition, core.clock.clone(), shutdown).await;
            Ok(())
        })
    }

    fn consumer(
        &self,
        name: &str,
        queue: Queue,
        handler: impl bus::Handler + 'static,
        shutdown: CancellationToken,
    ) -> Role {
        let name = format!("callback-deliverer.{name}");
        let ready = self.readiness.condition(&name).of_consumer();
        let bus = Arc::clone(&self.core.bus);
        Role::new(name, run_consumer(bus, queue, ConsumeOptions::default(), handler, ready, shutdown))
    }
}

/// What an installation does once, and a database of one process at every start.
async fn prepare(db: &Db) -> Result<Uuid, DatabaseError> {
    let alone = db.backend() == Backend::Sqlite;
    db.write_exclusively(move |connection| {
        if alone {
            let released = store::replicas::release_all(connection)?;
            if released > 0 {
                tracing::info!(deliveries = released, "deliveries were in flight when the last process ended");
            }
        }
        Ok(store::installation::get_or_create(connection, Uuid::new_v4())?)
    })
    .await
}
