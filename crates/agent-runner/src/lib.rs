//! agent-runner: asks the mentor.
//!
//! It consumes `run.requested`, asks the mentor as its provider says, and answers `run.answered`, to the dispatcher and
//! to nobody else. It is stateless: any number of runners share the queue, and each may die at any moment. It decides
//! how a mentor is asked, never whether, when, or what becomes of the answer.
//!
//! What happens on a crash between the steps of a run:
//!
//! - before the answer is confirmed: the request was not acknowledged, comes again (here or to another runner), and
//!   the mentor is asked again with the same idempotency key, as are services;
//! - between the confirmation and the acknowledgement: the same, the dispatcher drops the second answer, and the service
//!   registry what it has counted;
//! - afterwards: nothing is left to do.

mod answers;
mod ask;
mod config;
mod directory;
mod in_flight;
mod join;
mod metrics;
mod missing_keys;
mod offer;
pub mod provider;
mod run_log;
mod runner;
pub mod services;
mod session;
mod slots;
mod trace;
mod work;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::Bus;
use service_kit::admin::Readiness;
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;
use service_kit::config::InternalConfig;
use service_kit::egress::Guard;
use service_kit::process::Microservice;
use service_kit::secrets::KeyRing;
use service_kit::supervise::Role;
use service_kit::traces::Traces;
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
pub use crate::config::{Config, ProviderConfig, ProvidersConfig, RunnerConfig, SessionsConfig};
use crate::directory::Directory;
pub use crate::metrics::METRICS;
use crate::provider::{Provider, Transport};
pub use crate::run_log::{OUTPUT_AND_LOG_BYTES_MAX, RunLog};
use crate::runner::Parts;
use crate::services::CallTransport;
use crate::services::lookup::Lookup;
use crate::session::SessionMinter;
pub use crate::session::{SessionKeyPair, generate_session_key, public_jwks};

/// The name of this microservice.
pub(crate) const NAME: &str = "agent-runner";

/// What a runner is given.
pub struct Dependencies {
    /// Where requests come from and answers go.
    pub bus: Arc<dyn Bus>,
    /// The time of run logs, time-outs and tokens.
    pub clock: Clock,
    /// Learns whether requests can be taken, answers published, and API keys opened.
    pub readiness: Readiness,
    /// Signs what is asked of the service registry.
    pub internal: InternalConfig,
    /// Opens the API keys of mentors.
    pub keys: KeyRing,
    /// Where services may be, and mentors whose owners say where they are.
    pub egress: Guard,
    /// Providers beside the built-in ones, by kind; one of the same kind takes the place of a built-in one.
    pub providers: Vec<(String, Arc<dyn Provider>)>,
    /// Where spans go.
    pub traces: Traces,
}

/// The microservice that asks mentors. Clones are the same runner.
#[derive(Clone)]
pub struct AgentRunner {
    parts: Arc<Parts>,
}

impl AgentRunner {
    /// Makes a runner; it takes nothing before its roles run.
    ///
    /// # Errors
    ///
    /// A setting that cannot work.
    pub async fn open(config: Config, dependencies: Dependencies) -> anyhow::Result<Self> {
        config.validate()?;
        let Dependencies { bus, clock, readiness, internal, keys, egress, providers: extra, traces } = dependencies;
        let sessions = Arc::new(SessionMinter::new(&config.sessions)?);
        let transport = Transport::new(clock.clone(), &egress).context("cannot ask mentors over HTTP")?;
        let mut kinds = provider::built_in(&Arc::new(transport));
        kinds.extend(extra);
        let directory = Directory::new(kinds, config.providers);
        let consuming = readiness.condition("agent-runner.requests");
        consuming.unmet("requests are not consumed yet");
        let publishing = readiness.condition("agent-runner.answers");
        publishing.met();
        let keys_here = readiness.condition("agent-runner.keys");
        keys_here.met();
        let signer = InternalSigner::new(&internal, NAME);
        let lookup = Lookup::new(&config.peers.service_registry_url, signer, clock.clone())?;
        let client = egress.client(services::BACKSTOP).context("cannot call services over HTTP")?;
        let calls = Arc::new(CallTransport { clock: clock.clone(), client, sessions: Arc::clone(&sessions) });
        let asker = Arc::new(Asker { clock: clock.clone(), keys, sessions, directory, lookup, calls });
        let parts = Parts { config: config.runner, bus, clock, traces, asker, consuming, publishing, keys: keys_here };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The whole of it, for a process to run.
    #[must_use]
    pub fn microservice(&self, shutdown: CancellationToken) -> Microservice {
        let drain = Duration::from_secs(self.parts.config.drain_seconds);
        Microservice {
            name: NAME,
            routes: None,
            internal_routes: None,
            roles: self.roles(shutdown),
            metrics: &[METRICS, bus::METRICS],
            examine: None,
            drain,
        }
    }

    /// The long-running tasks: one, which takes requests until `shutdown` is cancelled and then ends in order.
    #[must_use]
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        vec![Role::new(NAME, runner::run(Arc::clone(&self.parts), shutdown))]
    }
}
