//! `carillon up`: all microservices in one process, on SQLite and the embedded bus.
//!
//! They are the same libraries that run apart: they talk over the bus and over internal HTTP, here on loopback.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_registry::AgentRegistry;
use agent_runner::AgentRunner;
use anyhow::{Context, bail};
use bus::Bus;
use bus::embedded::EmbeddedBus;
use callback_deliverer::CallbackDeliverer;
use cron_dispatcher::CronDispatcher;
use service_kit::admin::{self, InternalRoutes, Readiness};
use service_kit::auth::InternalVerifier;
use service_kit::clock::Clock;
use service_kit::config::{effective, process_environment};
use service_kit::egress::Guard;
use service_kit::http::{self, Listener, ServerOptions};
use service_kit::secrets::KeyRing;
use service_kit::supervise::{Role, cancel_on_signal, supervise};
use service_kit::telemetry;
use tokio_util::sync::CancellationToken;

use crate::cli::UpArguments;
use crate::config::Config;
use crate::data_dir::DataDir;

/// The microservices of this process that answer on the admin listener.
const OWN_NAMES: [&str; 2] = ["cron-dispatcher", "callback-deliverer"];
/// What a drain may take beyond the longest run or delivery attempt that it waits for.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn up(arguments: &UpArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, overrides(arguments))?;
    if arguments.check_config {
        print!("{}", effective(&config)?);
        return Ok(ExitCode::SUCCESS);
    }
    let data = DataDir::open(&arguments.place.data_dir)?;
    let _held_until_the_end = data.lock()?;
    let config = config.complete(&data)?;
    telemetry::init(&config.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config, &arguments.place.data_dir))?;
    Ok(ExitCode::SUCCESS)
}

fn overrides(arguments: &UpArguments) -> Vec<(String, String)> {
    let listen = arguments.listen.map(|address| ("http.listen".to_owned(), address.to_string()));
    let admin = arguments.admin_listen.map(|address| ("http.admin_listen".to_owned(), address.to_string()));
    listen.into_iter().chain(admin).collect()
}

async fn run(config: Config, data_dir: &Path) -> anyhow::Result<()> {
    // First what fails soonest: a port that is taken.
    let listener = Listener::bind("http.listen", config.http.listen)?;
    let admin_listener = Listener::bind("http.admin_listen", config.http.admin_listen)?;
    let (address, admin_address) = (listener.address(), admin_listener.address());

    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    let drain = Duration::from_secs(config.runner.drain_seconds).max(config.callbacks.deadline()) + DRAIN_MARGIN;
    let body_bytes_max = config.http.body_bytes_max;
    let Whole { bus, microservices, readiness, clock, verifier } = open(config, admin_address).await?;
    let Microservices { registry, dispatcher, runner, deliverer } = microservices;

    let (of_dispatcher, of_deliverer) = (dispatcher.internal_routes(), deliverer.internal_routes());
    let internal = InternalRoutes::new(verifier, clock, move |routes: &mut actix_web::web::ServiceConfig| {
        of_dispatcher(routes);
        of_deliverer(routes);
    });
    let public_options = ServerOptions { name: "agent-registry", body_bytes_max, ..ServerOptions::default() };
    let public = http::serve(listener, public_options, shutdown.clone(), registry.routes());
    let options = ServerOptions { name: "admin", workers: 1, ..ServerOptions::default() };
    let private = admin::serve(admin_listener, options, readiness, Some(internal), shutdown.clone());

    let mut roles =
        vec![Role::new("http", async { Ok(public.await?) }), Role::new("admin", async { Ok(private.await?) })];
    roles.extend(dispatcher.roles(shutdown.clone()));
    roles.extend(deliverer.roles(shutdown.clone()));
    roles.extend(runner.roles(shutdown.clone()));
    roles.extend(registry.roles(shutdown.clone()));

    greet(address, admin_address, data_dir);
    let ended = supervise(roles, shutdown, drain).await;
    bus.close().await;
    Ok(ended?)
}

/// Says where it listens and how to get a token. Nobody needs to listen to that: a closed output is no failure.
fn greet(address: SocketAddr, admin_address: SocketAddr, data_dir: &Path) {
    let version = env!("CARGO_PKG_VERSION");
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

/// Everything that is open.
struct Whole {
    bus: Arc<dyn Bus>,
    microservices: Microservices,
    readiness: Readiness,
    clock: Clock,
    verifier: InternalVerifier,
}

struct Microservices {
    registry: AgentRegistry,
    dispatcher: CronDispatcher,
    runner: AgentRunner,
    deliverer: CallbackDeliverer,
}

async fn open(config: Config, admin_address: SocketAddr) -> anyhow::Result<Whole> {
    let readiness = Readiness::default();
    let clock = Clock::of_process(process_environment())?;
    let keys = KeyRing::parse(&config.secrets)?;
    let bus: Arc<dyn Bus> = Arc::new(open_bus(config.bus.url.expose())?);

    let dispatcher = CronDispatcher::open(
        config.dispatcher.clone(),
        cron_dispatcher::Dependencies {
            database: config.database.of(&config.database.cron_dispatcher_url),
            bus: Arc::clone(&bus),
            clock: clock.clone(),
            readiness: readiness.clone(),
        },
    )
    .await
    .context("cron-dispatcher")?;
    let deliverer = CallbackDeliverer::open(
        config.callbacks.clone(),
        callback_deliverer::Dependencies {
            database: config.database.of(&config.database.callback_deliverer_url),
            bus: Arc::clone(&bus),
            clock: clock.clone(),
            readiness: readiness.clone(),
            keys: keys.clone(),
        },
    )
    .await
    .context("callback-deliverer")?;
    let runner = AgentRunner::open(
        agent_runner::Config { runner: config.runner.clone(), sessions: config.sessions.clone() },
        agent_runner::Dependencies {
            bus: Arc::clone(&bus),
            clock: clock.clone(),
            readiness: readiness.clone(),
            keys: keys.clone(),
            providers: Vec::new(),
        },
    )
    .await
    .context("agent-runner")?;
    let registry = AgentRegistry::open(
        agent_registry::Config {
            cron_dispatcher_url: format!("http://{admin_address}"),
            session_jwks: agent_runner::public_jwks(&config.sessions)?,
            ..agent_registry::Config::default()
        },
        agent_registry::Dependencies {
            database: config.database.of(&config.database.agent_registry_url),
            bus: Arc::clone(&bus),
            clock: clock.clone(),
            readiness: readiness.clone(),
            auth: config.auth.clone(),
            internal: config.internal.clone(),
            keys,
            egress: Guard::new(config.callbacks.allow_networks.clone()),
        },
    )
    .await
    .context("agent-registry")?;
    let verifier = InternalVerifier::new(&config.internal, &OWN_NAMES);
    let microservices = Microservices { registry, dispatcher, runner, deliverer };
    Ok(Whole { bus, microservices, readiness, clock, verifier })
}

fn open_bus(url: &str) -> anyhow::Result<EmbeddedBus> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        bail!("`bus.url` must be sqlite:<file> for `carillon up`, got a URL of another kind");
    };
    Ok(EmbeddedBus::open(Path::new(path))?)
}
