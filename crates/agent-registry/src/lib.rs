//! The public door of `/api/`: organisations, mentors, periodic agents and the run log.
//!
//! The registry decides who may do what, keeps what tenants wrote, and shows what the dispatcher says of runs. It
//! never decides when a run starts or how it ended: with it down, everything scheduled still fires, runs and is
//! delivered.
//!
//! A write goes this way: `http` reads the request and asks `access` whether the caller may; `validation`
//! finds all that is wrong with the body; `edit` applies it to the rows of `store` and writes the document in the same
//! transaction; after the commit the `announcer` publishes it until every receiver holds it. What comes back on the
//! bus, `consumers` store: the runs, and which documents are held.

mod access;
mod announcer;
mod audit;
mod broom;
mod callback_states;
mod config;
mod consumers;
mod creations;
mod deliverer;
mod dispatcher;
mod doctor;
mod documents;
mod edit;
mod erase;
mod http;
mod idempotency;
mod mentor_edit;
mod merger;
mod metrics;
mod outbox;
mod peer;
mod policy;
mod republish;
mod retention;
mod runs;
mod state;
mod store;
mod sweeper;
mod timing;
mod validation;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web;
use anyhow::Context;
use bus::{Bus, Queue};
use service_kit::admin::{Condition, Readiness};
use service_kit::auth::{InternalSigner, TokenVerifier};
use service_kit::clock::Clock;
use service_kit::config::{AuthConfig, DatabaseConfig, InternalConfig};
use service_kit::database::Db;
use service_kit::egress::Guard;
use service_kit::http::ServerOptions;
use service_kit::process::Microservice;
use service_kit::secrets::KeyRing;
use service_kit::supervise::Role;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use crate::metrics::METRICS;
pub use config::{Config, ProviderNames, RegistryConfig, SessionsConfig};
pub use republish::republish;
pub use store::migrations;

use crate::access::keys::RecentKeys;
use crate::access::limits::RequestLimits;
use crate::access::roles::SeenRoles;
use crate::broom::Broom;
use crate::creations::Creations;
use crate::deliverer::Deliverer;
use crate::dispatcher::Dispatcher;
use crate::outbox::Outbox;
use crate::state::State;

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
    /// The bus that it shares with the others.
    pub bus: Arc<dyn Bus>,
    /// Where it takes the time from.
    pub clock: Clock,
    /// Where it says whether it can work.
    pub readiness: Readiness,
    /// Whose tokens it believes.
    pub auth: AuthConfig,
    /// How microservices know each other.
    pub internal: InternalConfig,
    /// What secrets are sealed with.
    pub keys: KeyRing,
    /// Where callbacks may go.
    pub egress: Guard,
}

/// The registry. Clones are the same one.
#[derive(Clone)]
pub struct AgentRegistry {
    state: Arc<State>,
    database_condition: Condition,
    runs_condition: Condition,
    held_condition: Condition,
}

impl AgentRegistry {
    /// Opens and migrates the database; nothing runs until the roles do.
    ///
    /// # Errors
    ///
    /// One line on what is wrong with the configuration or the database.
    pub async fn open(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        config.validate()?;
        let Dependencies { database, bus, clock, readiness, auth, internal, keys, egress } = dependencies;
        if auth.jwks_url.is_some() && auth.audience.is_none() {
            tracing::warn!(
                "`auth.audience` is not set: tokens that the identity provider made for others are believed"
            );
        }
        let db = Db::open(&database, migrations()).await?;
        let signer = InternalSigner::new(&internal, state::NAME);
        let deliverer = Deliverer::new(config.deliverer_url()?, signer.clone(), clock.clone());
        let dispatcher = Dispatcher::new(config.dispatcher_url()?, signer, clock.clone());
        let state = State {
            recent_keys: RecentKeys::default(),
            seen_roles: SeenRoles::default(),
            request_limits: RequestLimits::new(clock.clone()),
            jwks: config.jwks().context("`sessions.jwks` is not a key set")?,
            config,
            db,
            bus,
            clock,
            keys,
            tokens: TokenVerifier::new(&auth).context("cannot make an HTTP client")?,
            egress,
            dispatcher: dispatcher.context("cannot make an HTTP client")?,
            deliverer: deliverer.context("cannot make an HTTP client")?,
            outbox: Outbox::default(),
            creations: Creations::new(Handle::current()),
            broom: Broom::default(),
            counted: Notify::new(),
        };
        Ok(Self {
            state: Arc::new(state),
            database_condition: readiness.condition("agent-registry.database"),
            runs_condition: readiness.condition("agent-registry.runs"),
            held_condition: readiness.condition("agent-registry.documents-held"),
        })
    }

    /// The public routes: the API (`/api/…`), its document (`/openapi.json`, `/docs`) and `/.well-known/jwks.json`.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
        let state = web::Data::from(Arc::clone(&self.state));
        move |config| http::configure(config, &state)
    }

    /// The whole of it, for a process to run.
    pub fn microservice(&self, shutdown: CancellationToken) -> Microservice {
        Microservice {
            name: state::NAME,
            routes: Some(Arc::new(self.routes())),
            internal_routes: Some({
                let state = web::Data::from(Arc::clone(&self.state));
                Arc::new(move |config: &mut web::ServiceConfig| doctor::routes(config, &state))
            }),
            roles: self.roles(shutdown),
            metrics: &[METRICS, bus::METRICS],
            examine: Some({
                let state = Arc::clone(&self.state);
                service_kit::doctor::examine(move || doctor::examine(Arc::clone(&state)))
            }),
            // Its servers give requests in progress their own time; a message in hand is one transaction.
            drain: ServerOptions::default().drain,
        }
    }

    /// What runs until `shutdown`: the announcer, the consumers, what sweeps and counts, looks at peers and the database.
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        let state = || Arc::clone(&self.state);
        let stop = || shutdown.clone();
        let runs = consumers::consume(
            state(),
            Queue::AgentRegistryRuns,
            consumers::Runs(state()),
            self.runs_condition.clone(),
            stop(),
        );
        let held = consumers::consume(
            state(),
            Queue::AgentRegistryDocumentsHeld,
            consumers::Held(state()),
            self.held_condition.clone(),
            stop(),
        );
        let (watched, clock) = (self.state.db.clone(), self.state.clock.clone());
        let (condition, stopped) = (self.database_condition.clone(), stop());
        let database = async move {
            watched.watch(condition, clock, stopped).await;
            Ok(())
        };
        vec![
            Role::new("agent-registry.database", database),
            Role::new("agent-registry.announcer", announcer::run(state(), stop())),
            Role::new("agent-registry.runs", runs),
            Role::new("agent-registry.documents-held", held),
            Role::new("agent-registry.callback-states", callback_states::run(state(), stop())),
            Role::new("agent-registry.sweeper", sweeper::run(state(), stop())),
            Role::new("agent-registry.merger", merger::run(state(), stop())),
        ]
    }
}
