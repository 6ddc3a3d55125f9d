//! service-registry alone in its process.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, AuthConfig, ConfigError, DatabaseConfig, EgressConfig, HttpConfig, InternalConfig, TelemetryConfig,
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
    auth: AuthConfig,
    internal: InternalConfig,
    services: Config,
    callbacks: EgressConfig,
    telemetry: TelemetryConfig,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.database.validate()?;
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
    let dependencies = Dependencies {
        database: settings.database,
        clock: process.clock.clone(),
        auth: settings.auth,
        egress: Guard::new(settings.callbacks.allow_networks),
    };
    let registry = ServiceRegistry::open(settings.services, dependencies).await?;
    process.run(vec![registry.microservice()], &settings.internal).await
}
