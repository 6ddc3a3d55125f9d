//! A process: one microservice, or several, with their listeners, their roles and their end.
//!
//! `carillon up` puts all microservices into one process; each microservice's own binary puts itself into one by
//! [`main`]. Both are this code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use clap::{Arg, ArgAction, Command};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, InternalRoutes, Readiness};
use crate::auth::InternalVerifier;
use crate::clock::Clock;
use crate::config::{self, DatabaseConfig, HttpConfig, InternalConfig, Settings, TelemetryConfig, process_environment};
use crate::database::{Db, Migrations};
use crate::doctor::{self, Examine};
use crate::http::{self, Listener, ServerOptions};
use crate::supervise::{ABANDONED_AFTER, Role, cancel_on_signal, supervise};
use crate::telemetry::{self, Metric};
use crate::traces::Traces;

/// What a drain may take beyond the longest piece of work that it waits for.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// Adds routes to a server.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// A microservice that is open: what it serves, and what it runs.
pub struct Microservice {
    /// Its name, as `cron-dispatcher`.
    pub name: &'static str,
    /// Its part of the public API.
    pub routes: Option<Routes>,
    /// What other microservices ask it, under `/internal`.
    pub internal_routes: Option<Routes>,
    /// Everything that runs until shutdown.
    pub roles: Vec<Role>,
    /// The tables of what it records.
    pub metrics: &'static [&'static [Metric]],
    /// Looks for what is wrong in what it owns, for `carillon doctor`; none: it owns nothing.
    pub examine: Option<Examine>,
    /// The longest that its work in hand may take once a stop was asked for.
    pub drain: Duration,
}

/// What the microservices of a process share, before they are open.
pub struct Process {
    /// Cancelled when the process is to stop.
    pub shutdown: CancellationToken,
    /// Where microservices say whether they are ready.
    pub readiness: Readiness,
    /// The time.
    pub clock: Clock,
    /// Where spans go.
    pub traces: Traces,
    listener: Option<Listener>,
    admin_listener: Listener,
    body_bytes_max: usize,
    cors_origins: Vec<String>,
}

impl Process {
    /// Takes its addresses, that of the public API only where there is one, and listens to signals. First of all,
    /// because a port that is taken fails soonest. `name` is what its traces call it.
    ///
    /// # Errors
    ///
    /// One line that names the setting to change.
    pub fn begin(
        name: &'static str,
        http: &HttpConfig,
        telemetry: &TelemetryConfig,
        door: Door,
    ) -> anyhow::Result<Self> {
        let listener = (door == Door::Public).then(|| Listener::bind("http.listen", http.listen)).transpose()?;
        let admin_listener = Listener::bind("http.admin_listen", http.admin_listen)?;
        // From here on: what is recorded earlier is lost.
        telemetry::metrics();
        let traces = Traces::open(telemetry, name)?;
        let shutdown = CancellationToken::new();
        cancel_on_signal(shutdown.clone())?;
        Ok(Self {
            shutdown,
            readiness: Readiness::default(),
            clock: Clock::of_process(process_environment())?,
            traces,
            listener,
            admin_listener,
            body_bytes_max: http.body_bytes_max,
            cors_origins: http.cors_origins.clone(),
        })
    }

    /// Where the public API is, if it has a part of it.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Where health, metrics and internal routes are.
    #[must_use]
    pub fn admin_address(&self) -> std::net::SocketAddr {
        self.admin_listener.address()
    }

    /// Runs microservices until the process is to stop, and drains.
    ///
    /// # Errors
    ///
    /// A role or a server ended early, or the drain took too long.
    pub async fn run(self, microservices: Vec<Microservice>, internal: &InternalConfig) -> anyhow::Result<()> {
        let Self { shutdown, readiness, clock, traces, listener, admin_listener, body_bytes_max, cors_origins } = self;
        let names: Vec<&'static str> = microservices.iter().map(|one| one.name).collect();
        let verifier = InternalVerifier::new(internal, &names);
        let drain = microservices.iter().map(|one| one.drain).max().unwrap_or_default() + DRAIN_MARGIN;
        let (mut public, mut private, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let examines = microservices.iter().map(|one| (one.name, one.examine.clone())).collect();
        private.push(doctor::routes(examines, clock.clone()));
        telemetry::describe(telemetry::METRICS);
        for microservice in microservices {
            microservice.metrics.iter().for_each(|table| telemetry::describe(table));
            public.extend(microservice.routes);
            private.extend(microservice.internal_routes);
            roles.extend(microservice.roles);
        }

        let internal = InternalRoutes::new(verifier, clock, all(private));
        let options = ServerOptions { name: "admin", workers: 1, ..ServerOptions::default() };
        let admin = admin::serve(admin_listener, options, readiness, Some(internal), shutdown.clone());
        roles.push(Role::new("admin", async { Ok(admin.await?) }));
        if let Some(listener) = listener {
            let options = ServerOptions { name: "public", body_bytes_max, cors_origins, ..ServerOptions::default() };
            let server = http::serve(listener, options, shutdown.clone(), all(public));
            roles.push(Role::new("public", async { Ok(server.await?) }));
        }
        let ended = supervise(roles, shutdown, drain).await;
        traces.flush().await;
        Ok(ended?)
    }
}

fn all(routes: Vec<Routes>) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + Sync + 'static {
    move |config| routes.iter().for_each(|add| add(config))
}

/// What every microservice's settings have: where it listens, and what it logs.
pub type CommonSettings<S> = for<'a> fn(&'a S) -> (&'a HttpConfig, &'a TelemetryConfig);

/// The database of a microservice, which `--migrate` brings to this version.
pub struct OwnDatabase<S> {
    /// Where it is.
    pub config: for<'a> fn(&'a S) -> &'a DatabaseConfig,
    /// What leads there.
    pub migrations: fn() -> Migrations,
}

/// Whether a process serves a part of the public API, at `http.listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It does.
    Public,
    /// It serves health, metrics and internal routes only.
    Internal,
}

/// The `main` of a microservice's own binary: command line, configuration, telemetry, and then `run`.
pub fn main<S: Settings>(
    name: &'static str,
    door: Door,
    common: CommonSettings<S>,
    database: Option<OwnDatabase<S>>,
    run: impl AsyncFnOnce(S, Process) -> anyhow::Result<()>,
) -> ExitCode {
    match begin(name, door, common, database, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin<S: Settings>(
    name: &'static str,
    door: Door,
    common: CommonSettings<S>,
    database: Option<OwnDatabase<S>>,
    run: impl AsyncFnOnce(S, Process) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let matches = command_line(name, database.is_some()).get_matches();
    let file: Option<&PathBuf> = matches.get_one("config");
    let settings: S = config::load(file.map(PathBuf::as_path), process_environment(), [])?;
    if matches.get_flag("check-config") {
        // Not `print!`, which panics where nobody reads it.
        return Ok(std::io::stdout().write_all(config::effective(&settings)?.as_bytes())?);
    }
    let (http, telemetry) = common(&settings);
    if matches.get_flag("probe") {
        return crate::admin::probe(http.admin_listen);
    }
    let (http, telemetry) = (http.clone(), telemetry.clone());
    telemetry::init(&telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(database) = database.filter(|_| matches.get_flag("migrate")) {
        let opened = runtime.block_on(Db::open((database.config)(&settings), (database.migrations)()));
        return Ok(opened.map(drop)?);
    }
    let ended = runtime.block_on(async {
        let process = Process::begin(name, &http, &telemetry, door)?;
        run(settings, process).await
    });
    // Whatever waits for a database that does not answer is not waited for.
    runtime.shutdown_timeout(ABANDONED_AFTER);
    ended
}

fn command_line(name: &'static str, has_database: bool) -> Command {
    let config = Arg::new("config").long("config").value_name("FILE").help("A configuration file (TOML)");
    let check = Arg::new("check-config").long("check-config").action(ArgAction::SetTrue);
    let probe = Arg::new("probe").long("probe").action(ArgAction::SetTrue);
    let migrate = Arg::new("migrate").long("migrate").action(ArgAction::SetTrue);
    let migrate = migrate.help("Bring the database to this version, as every start does, and exit");
    let command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(format!("Carillon's {name}, alone in its process"))
        .after_help(format!("Example:\n  CARILLON__HTTP__ADMIN_LISTEN=0.0.0.0:9090 {name} --config /etc/carillon.toml"))
        .arg(config.value_parser(clap::value_parser!(PathBuf)))
        .arg(check.help("Print the effective configuration, secrets masked, and exit"))
        .arg(probe.help("Ask the process of this configuration whether it is ready, for health checks of containers"));
    if has_database { command.arg(migrate) } else { command }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_holds_together() {
        super::command_line("cron-dispatcher", true).debug_assert();
        super::command_line("agent-runner", false).debug_assert();
    }
}
