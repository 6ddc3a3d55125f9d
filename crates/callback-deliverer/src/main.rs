//! callback-deliverer alone in its process.

use std::process::ExitCode;

use callback_deliverer::{CallbackDeliverer, Config, Dependencies};
use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, BusConfig, ConfigError, DatabaseConfig, HttpConfig, InternalConfig, SecretsConfig, TelemetryConfig,
};
use service_kit::process::{self, Door, OwnDatabase, Process};
use service_kit::secrets::KeyRing;

/// The configuration of a process that is this microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    http: HttpConfig,
    database: DatabaseConfig,
    bus: BusConfig,
    internal: InternalConfig,
    secrets: SecretsConfig,
    callbacks: Config,
    telemetry: TelemetryConfig,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.database.validate()?;
        self.bus.validate()?;
        self.internal.validate()?;
        self.secrets.validate()?;
        self.callbacks.validate()?;
        self.telemetry.validate()
    }
}

const DATABASE: OwnDatabase<Settings> =
    OwnDatabase { config: |settings| &settings.database, migrations: callback_deliverer::migrations };

fn main() -> ExitCode {
    process::main(
        "callback-deliverer",
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
        keys: KeyRing::parse(&settings.secrets)?,
        public_url: settings.http.public_url,
    };
    let deliverer = CallbackDeliverer::open(settings.callbacks, dependencies).await?;
    let microservice = deliverer.microservice(process.shutdown.clone());
    let ended = process.run(vec![microservice], &settings.internal).await;
    bus.close().await;
    ended
}
