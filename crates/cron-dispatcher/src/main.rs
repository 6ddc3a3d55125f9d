//! cron-dispatcher alone in its process.

use std::process::ExitCode;

use cron_dispatcher::{CronDispatcher, Dependencies, DispatcherConfig};
use serde::{Deserialize, Serialize};
use service_kit::config::{self, BusConfig, ConfigError, DatabaseConfig, HttpConfig, InternalConfig, TelemetryConfig};
use service_kit::process::{self, Door, OwnDatabase, Process};

/// The configuration of a process that is this microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    http: HttpConfig,
    database: DatabaseConfig,
    bus: BusConfig,
    internal: InternalConfig,
    dispatcher: DispatcherConfig,
    telemetry: TelemetryConfig,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.database.validate()?;
        self.bus.validate()?;
        self.internal.validate()?;
        self.dispatcher.validate()?;
        self.telemetry.validate()
    }
}

const DATABASE: OwnDatabase<Settings> =
    OwnDatabase { config: |settings| &settings.database, migrations: cron_dispatcher::migrations };

fn main() -> ExitCode {
    process::main(
        "cron-dispatcher",
        Door::Internal,
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
        traces: process.traces.clone(),
    };
    let dispatcher = CronDispatcher::open(settings.dispatcher, dependencies).await?;
    let microservice = dispatcher.microservice(process.shutdown.clone());
    let ended = process.run(vec![microservice], &settings.internal).await;
    bus.close().await;
    ended
}
