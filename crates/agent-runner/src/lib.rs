//! agent-runner: asks the mentor.
//!
//! It consumes `run.requested`, asks the mentor as its provider says, and answers `run.answered`, to the dispatcher and
//! to nobody else. It is stateless: any number of runners share the queue, and each may die at any moment. It decides
//! how a mentor is asked, never whether, when, or what becomes of the answer.
//!
//! What happens on a crash between the steps of a run:
//!
//! - before the answer is confirmed: the request was not acknowledged, comes again (here or to another runner), and
//!   the mentor is asked again with the same idempotency key;
//! - between the confirmation and the acknowledgement: the same, and the dispatcher drops the second answer;
//! - afterwards: nothing is left to do.

mod answers;
mod ask;
mod config;
mod in_flight;
pub mod provider;
mod run_log;
mod runner;
mod session;
mod work;

use std::sync::Arc;

use bus::Bus;
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::secrets::KeyRing;
use service_kit::supervise::Role;
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
pub use crate::config::{Config, RunnerConfig, SessionsConfig};
use crate::provider::Provider;
pub use crate::run_log::{OUTPUT_AND_LOG_BYTES_MAX, RunLog};
use crate::runner::Parts;
use crate::session::SessionMinter;
pub use crate::session::{SessionKeyPair, generate_session_key, public_jwks};

/// What a runner is given.
pub struct Dependencies {
    /// Where requests come from and answers go.
    pub bus: Arc<dyn Bus>,
    /// The time of run logs, time-outs and tokens.
    pub clock: Clock,
    /// Learns whether requests can be taken, answers published, and API keys opened.
    pub readiness: Readiness,
    /// Opens the API keys of mentors.
    pub keys: KeyRing,
    /// Providers beside the built-in ones, by kind; one of the same kind takes the place of a built-in one.
    pub providers: Vec<(String, Arc<dyn Provider>)>,
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
        let Dependencies { bus, clock, readiness, keys, providers: extra } = dependencies;
        let sessions = SessionMinter::new(&config.sessions)?;
        let mut providers = provider::built_in();
        providers.extend(extra);
        let consuming = readiness.condition("agent-runner.requests");
        consuming.unmet("requests are not consumed yet");
        let publishing = readiness.condition("agent-runner.answers");
        publishing.met();
        let keys_here = readiness.condition("agent-runner.keys");
        keys_here.met();
        let asker = Arc::new(Asker { clock: clock.clone(), keys, sessions, providers });
        let parts = Parts { config: config.runner, bus, clock, asker, consuming, publishing, keys: keys_here };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The long-running tasks: one, which takes requests until `shutdown` is cancelled and then ends in order.
    #[must_use]
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        vec![Role::new("agent-runner", runner::run(Arc::clone(&self.parts), shutdown))]
    }
}
