//! `carillon up`: all microservices in one process.
//!
//! They are the same libraries that run apart: they talk over the bus and over internal HTTP, here on loopback.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_registry::AgentRegistry;
use agent_runner::AgentRunner;
use anyhow::Context;
use bus::Bus;
use callback_deliverer::CallbackDeliverer;
use cron_dispatcher::CronDispatcher;
use service_kit::config::{PeersConfig, effective};
use service_kit::egress::Guard;
use service_kit::process::{Door, Microservice, Process};
use service_kit::secrets::KeyRing;
use service_kit::supervise::ABANDONED_AFTER;
use service_kit::telemetry;
use service_registry::ServiceRegistry;
use url::Url;

use crate::cli::UpArguments;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// How long a process that has the data directory may take to end.
const ENDING_WITHIN: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn up(arguments: &UpArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, overrides(arguments))?;
    if arguments.check_config {
        check(config, &DataDir::at(&arguments.place.data_dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    let data = DataDir::open(&arguments.place.data_dir)?;
    let _held_until_the_end = data.lock(ENDING_WITHIN)?;
    let config = config.complete(&data)?;
    telemetry::init(&config.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(&config, &arguments.place.data_dir));
    // Whatever waits for a database that does not answer is not waited for.
    runtime.shutdown_timeout(ABANDONED_AFTER);
    ended.map(|()| ExitCode::SUCCESS)
}

/// Prints what would be in force, or says what could not be.
fn check(config: Config, data: &DataDir) -> anyhow::Result<()> {
    let (config, missing) = config.preview(data)?;
    if !missing.is_empty() {
        print(format_args!("# Made on the first start, in {}: {}\n", data.keys().display(), missing.join(", ")))?;
    }
    print(effective(&config)?)
}

fn overrides(arguments: &UpArguments) -> Vec<(String, String)> {
    let listen = arguments.listen.map(|address| ("http.listen".to_owned(), address.to_string()));
    let admin = arguments.admin_listen.map(|address| ("http.admin_listen".to_owned(), address.to_string()));
    listen.into_iter().chain(admin).collect()
}

async fn run(config: &Config, data_dir: &Path) -> anyhow::Result<()> {
    let process = Process::begin("carillon", &config.http, &config.telemetry, Door::Public)?;
    let bus = bus::open(config.bus.url.expose()).await?;
    let microservices = open(config, &process, &bus).await?;
    greet(&process, data_dir);
    let ended = process.run(microservices, &config.internal).await;
    bus.close().await;
    ended
}

/// Says where it listens and how to get a token. Nobody needs to listen to that: a closed output is no failure.
fn greet(process: &Process, data_dir: &Path) {
    let version = env!("CARGO_PKG_VERSION");
    let address = process.address().map(|address| address.to_string()).unwrap_or_default();
    let admin_address = process.admin_address();
    let data = data_dir.display();
    let greeting = format!(
        "Carillon {version} is up; Ctrl-C stops it.\n  \
         API    http://{address}\n  \
         admin  http://{admin_address}  (health, metrics)\n  \
         data   {data}\n\
         A token for the API:\n  \
         carillon token --user admin --org acme --data-dir {data}\n"
    );
    let _ = std::io::stdout().write_all(greeting.as_bytes());
}

/// Opens them in the order in which a failure is found soonest; nothing runs yet.
async fn open(config: &Config, process: &Process, bus: &Arc<dyn Bus>) -> anyhow::Result<Vec<Microservice>> {
    let keys = KeyRing::parse(&config.secrets)?;
    let stop = || process.shutdown.clone();
    let dispatcher = open_dispatcher(config, process, bus).await.context("cron-dispatcher")?;
    let deliverer = open_deliverer(config, process, bus, &keys).await.context("callback-deliverer")?;
    let runner = open_runner(config, process, bus, &keys).await.context("agent-runner")?;
    let registry = open_registry(config, process, bus, keys).await.context("agent-registry")?;
    let services = open_services(config, process, bus).await.context("service-registry")?;
    Ok(vec![
        dispatcher.microservice(stop()),
        deliverer.microservice(stop()),
        runner.microservice(stop()),
        registry.microservice(stop()),
        services.microservice(stop()),
    ])
}

async fn open_dispatcher(config: &Config, process: &Process, bus: &Arc<dyn Bus>) -> anyhow::Result<CronDispatcher> {
    let dependencies = cron_dispatcher::Dependencies {
        database: config.database.of(&config.database.cron_dispatcher_url),
        bus: Arc::clone(bus),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        traces: process.traces.clone(),
    };
    CronDispatcher::open(config.dispatcher.clone(), dependencies).await
}

async fn open_deliverer(
    config: &Config,
    process: &Process,
    bus: &Arc<dyn Bus>,
    keys: &KeyRing,
) -> anyhow::Result<CallbackDeliverer> {
    let dependencies = callback_deliverer::Dependencies {
        database: config.database.of(&config.database.callback_deliverer_url),
        bus: Arc::clone(bus),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        keys: keys.clone(),
        public_url: public_url(config, process),
        traces: process.traces.clone(),
    };
    CallbackDeliverer::open(config.callbacks.clone(), dependencies).await
}

/// As configured; else where this process listens, which is right for receivers on the same machine at least.
fn public_url(config: &Config, process: &Process) -> Option<Url> {
    let listening = || Url::parse(&format!("http://{}", process.address()?)).ok();
    config.http.public_url.clone().or_else(listening)
}

async fn open_runner(
    config: &Config,
    process: &Process,
    bus: &Arc<dyn Bus>,
    keys: &KeyRing,
) -> anyhow::Result<AgentRunner> {
    let own = agent_runner::Config {
        runner: config.runner.clone(),
        sessions: config.sessions.clone(),
        providers: config.providers.clone(),
        peers: PeersConfig {
            service_registry_url: format!("http://{}", process.admin_address()),
            ..PeersConfig::default()
        },
    };
    let dependencies = agent_runner::Dependencies {
        bus: Arc::clone(bus),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        internal: config.internal.clone(),
        keys: keys.clone(),
        egress: Guard::new(config.callbacks.allow_networks.clone()),
        providers: Vec::new(),
        traces: process.traces.clone(),
    };
    AgentRunner::open(own, dependencies).await
}

async fn open_registry(
    config: &Config,
    process: &Process,
    bus: &Arc<dyn Bus>,
    keys: KeyRing,
) -> anyhow::Result<AgentRegistry> {
    let own = agent_registry::Config {
        cron_dispatcher_url: format!("http://{}", process.admin_address()),
        callback_deliverer_url: format!("http://{}", process.admin_address()),
        public_url: config.http.public_url.clone(),
        session_jwks: agent_runner::public_jwks(&config.sessions)?,
        provider_names: config.providers.names(),
        default_provider: config.providers.default.clone(),
        registry: config.registry.clone(),
    };
    let dependencies = agent_registry::Dependencies {
        database: config.database.of(&config.database.agent_registry_url),
        bus: Arc::clone(bus),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        auth: config.auth.clone(),
        internal: config.internal.clone(),
        keys,
        egress: Guard::new(config.callbacks.allow_networks.clone()),
    };
    AgentRegistry::open(own, dependencies).await
}

async fn open_services(config: &Config, process: &Process, bus: &Arc<dyn Bus>) -> anyhow::Result<ServiceRegistry> {
    let dependencies = service_registry::Dependencies {
        database: config.database.of(&config.database.service_registry_url),
        bus: Arc::clone(bus),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        auth: config.auth.clone(),
        session_jwks: agent_runner::public_jwks(&config.sessions)?,
        egress: Guard::new(config.callbacks.allow_networks.clone()),
    };
    ServiceRegistry::open(config.services.clone(), dependencies).await
}
