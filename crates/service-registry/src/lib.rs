//! The public door of `/v1beta1/`: what agents can call (services), and the groups that they are offered in.
//!
//! A service belongs to the user who registered it, within that user's organisation; a group may be shown to the whole
//! organisation, or, if the operator publishes it, to everyone. Runs call services; here it is said which
//! (`http::callable`), what they did is counted (`invocations`), and endpoints are probed (`prober`).
//!
//! A request goes this way: `http` asks `access` who it is, `validation` finds all that is wrong with what it says, and
//! `store` does the work in one transaction. So a crash leaves a request done or not done, never half; connecting a
//! service that is connected changes nothing, so a client may simply ask again.

mod access;
mod config;
mod http;
mod invocations;
mod metrics;
mod prober;
mod refusal;
mod store;
mod sweep;
mod validation;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web;
use anyhow::Context;
use bus::{Bus, ConsumeOptions, Queue, run_consumer};
use service_kit::admin::Readiness;
use service_kit::auth::{SessionVerifier, TokenVerifier};
use service_kit::clock::Clock;
use service_kit::config::{AuthConfig, DatabaseConfig};
use service_kit::database::Db;
use service_kit::egress::{Guard, GuardedClient};
use service_kit::http::ServerOptions;
use service_kit::process::Microservice;
use service_kit::supervise::Role;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::invocations::Invocations;
pub use crate::metrics::METRICS;

pub use config::Config;
pub use store::migrations;

/// Its name among the microservices.
const NAME: &str = "service-registry";

/// Every operation of the public door: its method, and its path with variables in braces. For tests, and for whoever
/// documents them.
#[must_use]
pub fn operations() -> Vec<(Method, String)> {
    http::operations()
}

/// What the registry stands on.
pub struct Dependencies {
    /// Its own database.
    pub database: DatabaseConfig,
    /// What runs did with services comes from there.
    pub bus: Arc<dyn Bus>,
    /// Where it takes the time from.
    pub clock: Clock,
    /// Where it says whether it is ready.
    pub readiness: Readiness,
    /// Whose tokens it believes.
    pub auth: AuthConfig,
    /// The public keys of the runners, as a JSON Web Key Set; empty: no run is told of any service.
    pub session_jwks: String,
    /// Where services may be called.
    pub egress: Guard,
}

/// The registry of services. Clones are the same one.
#[derive(Clone)]
pub struct ServiceRegistry {
    state: Arc<State>,
    bus: Arc<dyn Bus>,
    readiness: Readiness,
    probes: GuardedClient,
}

/// What every part of the registry works with.
struct State {
    config: Config,
    db: Db,
    clock: Clock,
    tokens: TokenVerifier,
    sessions: SessionVerifier,
    /// An endpoint may be due.
    endpoints_changed: Notify,
    egress: Guard,
}

impl ServiceRegistry {
    /// Opens and migrates the database.
    ///
    /// # Errors
    ///
    /// One line on what is wrong with the database or a setting.
    pub async fn open(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { database, bus, clock, readiness, auth, session_jwks, egress } = dependencies;
        let db = Db::open(&database, migrations()).await?;
        let tokens = TokenVerifier::new(&auth).context("cannot make an HTTP client")?;
        let sessions = SessionVerifier::new(&session_jwks, NAME).context("`sessions.jwks` is not a key set")?;
        if !sessions.has_keys() {
            tracing::warn!("`sessions.jwks` names no key of runners: no run is told of any service");
        }
        let probes = egress.client_without_pool(prober::BACKSTOP).context("cannot make an HTTP client")?;
        let state = State { config, db, clock, tokens, sessions, endpoints_changed: Notify::new(), egress };
        Ok(Self { state: Arc::new(state), bus, readiness, probes })
    }

    /// The public routes: everything under `/v1beta1`, unknown paths too.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
        let state = web::Data::from(Arc::clone(&self.state));
        move |config| http::configure(config, &state)
    }

    /// What runners ask over internal HTTP, to be mounted under `/internal`.
    pub fn internal_routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move |config| http::callable::routes(config, &state)
    }

    /// Everything that runs until `shutdown`.
    #[must_use]
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        let state = &self.state;
        let (watched, database) = (Arc::clone(state), self.readiness.condition("service-registry.database"));
        let (stop, bus) = (shutdown.clone(), Arc::clone(&self.bus));
        let (queue, handler) = (Queue::ServiceRegistryInvocations, Invocations(Arc::clone(state)));
        // Who looks for services needs no bus: with it away, only counting waits.
        let consumer = run_consumer(bus, queue, ConsumeOptions::default(), handler, |_| {}, shutdown.clone());
        let prober = prober::run(Arc::clone(state), self.probes.clone(), shutdown.clone());
        vec![
            Role::new("service-registry.database", async move {
                watched.db.watch(database, watched.clock.clone(), stop).await;
                Ok(())
            }),
            Role::new("service-registry.invocations", consumer),
            Role::new("service-registry.prober", prober),
            Role::new("service-registry.sweep", sweep::run(Arc::clone(state), shutdown)),
        ]
    }

    /// The whole of it, for a process to run.
    #[must_use]
    pub fn microservice(&self, shutdown: CancellationToken) -> Microservice {
        Microservice {
            name: NAME,
            routes: Some(Arc::new(self.routes())),
            metrics: &[METRICS, bus::METRICS],
            examine: None,
            internal_routes: Some(Arc::new(self.internal_routes())),
            roles: self.roles(shutdown),
            drain: ServerOptions::default().drain,
        }
    }
}
