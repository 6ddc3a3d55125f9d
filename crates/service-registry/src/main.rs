//! service-registry alone in its process.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, AuthConfig, BusConfig, ConfigError, DatabaseConfig, EgressConfig, HttpConfig, InternalConfig, TelemetryConfig,
};
use service_kit::egress::Guard;
use service_kit::process::{self, Door, OwnDatabase, Process};
use service_registry::{Config, Dependencies, ServiceRegistry};

/// The configuration of a process that is this microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    http: HttpConfig,
    database: DatabaseConfig,
    bus: BusConfig,
    auth: AuthConfig,
    internal: InternalConfig,
    sessions: SessionsConfig,
    services: Config,
    callbacks: EgressConfig,
    telemetry: TelemetryConfig,
}

/// `[sessions]`: what session tokens of runs are checked with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SessionsConfig {
    /// The public keys of the runners, as a JSON Web Key Set.
    jwks: String,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.database.validate()?;
        self.bus.validate()?;
        self.auth.validate()?;
        self.internal.validate()?;
        self.telemetry.validate()
    }
}

const DATABASE: OwnDatabase<Settings> =
    OwnDatabase { config: |settings| &settings.database, migrations: service_registry::migrations };

fn main() -> ExitCode {
    process::main(
        "service-registry",
        Door::Public,
        |settings| (&settings.http, &settings.telemetry),
        Some(DATABASE),
        run,
    )
}

async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let bus = bus::open(settings.bus.url.expose()).await?;
    let dependencies = Dependencies {
        database: settings.database,
        bus: bus.clone(),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        auth: settings.auth,
        session_jwks: settings.sessions.jwks,
        egress: Guard::new(settings.callbacks.allow_networks),
    };
    let registry = ServiceRegistry::open(settings.services, dependencies).await?;
    let microservice = registry.microservice(process.shutdown.clone());
    let ended = process.run(vec![microservice], &settings.internal).await;
    bus.close().await;
    ended
}
