//! cron-dispatcher: decides when a run starts and how it ended.
//!
//! It holds the documents that the registry announces, fires schedules, lets runs into the window at the broker,
//! judges every answer, and announces results until the registry and the deliverer hold them.
//!
//! Its table is the queue and the truth; whatever was sent can be sent again. What a crash leaves behind:
//!
//! - before the commit of a fire: due schedules, fired after the restart;
//! - between entering the window and the publish: a run that is requested and overdue after a while, then sent again;
//! - between judging and announcing: a result that nobody holds, announced again when overdue.
//!
//! Any number of dispatchers may be active; there is no leader.

mod announce;
mod apply;
mod chain;
mod config;
mod consumers;
mod context;
mod creators;
mod doctor;
mod error;
mod fairness;
mod fire;
mod fired;
mod http;
mod joining;
mod judge;
pub mod ledger;
mod measure;
mod metrics;
mod outcome;
mod pause;
mod pieces;
mod prompt;
mod replan;
mod request;
mod schema;
mod settle;
#[cfg(test)]
mod simulation;
mod store;
mod sweep;
mod time;
mod traces;
mod trigger;
mod tzdb;
mod watch;
mod window;
mod zones;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web;
use bus::{Bus, ConsumeOptions, Handler, Queue, run_consumer};
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::DatabaseConfig;
use service_kit::database::{Backend, Db};
use service_kit::process::Microservice;
use service_kit::supervise::Role;
use service_kit::traces::Traces;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use crate::config::DispatcherConfig;
use crate::context::Context;
use crate::error::DispatchError;
pub use crate::metrics::METRICS;
pub use crate::store::migrations;

/// Run ids are at least the unix seconds of the start times this.
const IDS_PER_SECOND: i64 = 10_000;

/// How long it gathers what receivers hold: nobody waits for it, and what both say of the same runs is noted together.
const GATHER_HELD: Duration = Duration::from_millis(250);
/// How long the transactions in hand may take once a stop was asked for.
const DRAIN: Duration = Duration::from_secs(20);

/// What the dispatcher is given.
pub struct Dependencies {
    /// Where its own database is.
    pub database: DatabaseConfig,
    /// Its messages.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Clock,
    /// Where it says whether it is ready.
    pub readiness: Readiness,
    /// Where spans go.
    pub traces: Traces,
}

/// The dispatcher, open and not yet running.
pub struct CronDispatcher {
    context: Arc<Context>,
    readiness: Readiness,
}

impl CronDispatcher {
    /// Opens its database, brings it to this version, and raises the ids of runs.
    ///
    /// # Errors
    ///
    /// The database cannot be opened, or belongs to a newer version.
    pub async fn open(config: DispatcherConfig, dependencies: Dependencies) -> anyhow::Result<Self> {
        let Dependencies { database, bus, clock, readiness, traces } = dependencies;
        let db = Db::open_by_index(&database, store::migrations()).await?;
        let floor = clock.now().timestamp().saturating_mul(IDS_PER_SECOND);
        db.write_exclusively(move |conn| store::queue::raise_ids(conn, floor).map_err(DispatchError::from)).await?;
        // Where there is another clock to agree with, nothing is claimed before it was asked.
        let has_other_clock = db.backend() == Backend::Postgres && clock.is_host();
        let context = Context {
            config,
            db,
            bus,
            clock,
            traces,
            clock_agrees: AtomicBool::new(!has_other_clock),
            aside: Mutex::default(),
            schedules_changed: Notify::new(),
            runs_queued: Notify::new(),
            zones_changed: Notify::new(),
            runs_wait: AtomicBool::new(true),
            working: readiness.condition("cron-dispatcher.working"),
        };
        Ok(Self { context: Arc::new(context), readiness })
    }

    /// What the registry asks over internal HTTP, to be mounted under `/internal`.
    pub fn internal_routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
        let context = Arc::clone(&self.context);
        move |config| http::routes(config, &context)
    }

    /// Everything that runs until `shutdown`.
    #[must_use]
    pub fn roles(&self, shutdown: CancellationToken) -> Vec<Role> {
        let context = &self.context;
        let agreeing = self.readiness.condition("cron-dispatcher.clock");
        let (at_once, gathering) = (ConsumeOptions::default(), ConsumeOptions::gathering(GATHER_HELD));
        vec![
            Role::new("cron-dispatcher.time", time::run(Arc::clone(context), agreeing, shutdown.clone())),
            Role::new("cron-dispatcher.tzdb", tzdb::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.zones", zones::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.fire", fire::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.window", window::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.joining", joining::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.watch", watch::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.measure", measure::run(Arc::clone(context), shutdown.clone())),
            Role::new("cron-dispatcher.sweep", sweep::run(Arc::clone(context), shutdown.clone())),
            self.consumer(
                Queue::CronDispatcherDocuments,
                at_once,
                consumers::Documents(Arc::clone(context)),
                &shutdown,
            ),
            self.consumer(Queue::CronDispatcherAnswers, at_once, consumers::Answers(Arc::clone(context)), &shutdown),
            self.consumer(Queue::CronDispatcherRunsHeld, gathering, consumers::Held(Arc::clone(context)), &shutdown),
        ]
    }

    /// The whole of it, for a process to run.
    #[must_use]
    pub fn microservice(&self, shutdown: CancellationToken) -> Microservice {
        Microservice {
            name: context::NAME,
            routes: None,
            internal_routes: Some(Arc::new(self.internal_routes())),
            roles: self.roles(shutdown),
            metrics: &[METRICS, bus::METRICS],
            examine: Some({
                let context = Arc::clone(&self.context);
                service_kit::doctor::examine(move || doctor::examine(Arc::clone(&context)))
            }),
            // Whatever it has in hand is one transaction, which may have to wait for those of other dispatchers.
            drain: DRAIN,
        }
    }

    fn consumer(
        &self,
        queue: Queue,
        options: ConsumeOptions,
        handler: impl Handler + 'static,
        shutdown: &CancellationToken,
    ) -> Role {
        let ready = self.readiness.condition(queue.as_str()).of_consumer();
        let bus = Arc::clone(&self.context.bus);
        Role::new(queue.as_str(), run_consumer(bus, queue, options, handler, ready, shutdown.clone()))
    }
}
