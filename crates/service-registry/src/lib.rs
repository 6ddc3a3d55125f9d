//! The public door of `/v1beta1/`: what agents can call (services), and the groups that they are offered in.
//!
//! A service belongs to the user who registered it, within that user's organisation; a group may be shown to the whole
//! organisation, or, if the operator publishes it, to everyone. Nothing here calls a service.
//!
//! A request goes this way: `http` asks `access` who it is, `validation` finds all that is wrong with what it says, and
//! `store` does the work in one transaction. So a crash leaves a request done or not done, never half; connecting a
//! service that is connected changes nothing, so a client may simply ask again.

mod access;
mod config;
mod http;
mod refusal;
mod store;
mod validation;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web;
use anyhow::Context;
use service_kit::auth::TokenVerifier;
use service_kit::clock::Clock;
use service_kit::config::{AuthConfig, DatabaseConfig};
use service_kit::database::Db;
use service_kit::egress::Guard;
use service_kit::http::ServerOptions;
use service_kit::process::Microservice;

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
    /// Where it takes the time from.
    pub clock: Clock,
    /// Whose tokens it believes.
    pub auth: AuthConfig,
    /// Where services may be called.
    pub egress: Guard,
}

/// The registry of services. Clones are the same one.
#[derive(Clone)]
pub struct ServiceRegistry {
    state: Arc<State>,
}

/// What every part of the registry works with.
struct State {
    config: Config,
    db: Db,
    clock: Clock,
    tokens: TokenVerifier,
    egress: Guard,
}

impl ServiceRegistry {
    /// Opens and migrates the database.
    ///
    /// # Errors
    ///
    /// One line on what is wrong with the database.
    pub async fn open(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { database, clock, auth, egress } = dependencies;
        let db = Db::open(&database, migrations()).await?;
        let tokens = TokenVerifier::new(&auth).context("cannot make an HTTP client")?;
        let state = State { config, db, clock, tokens, egress };
        Ok(Self { state: Arc::new(state) })
    }

    /// The public routes: everything under `/v1beta1`, unknown paths too.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
        let state = web::Data::from(Arc::clone(&self.state));
        move |config| http::configure(config, &state)
    }

    /// The whole of it, for a process to run.
    #[must_use]
    pub fn microservice(&self) -> Microservice {
        Microservice {
            name: NAME,
            routes: Some(Arc::new(self.routes())),
            internal_routes: None,
            roles: Vec::new(),
            metrics: &[],
            drain: ServerOptions::default().drain,
        }
    }
}
