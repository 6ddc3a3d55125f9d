//! agent-runner alone in its process.

use std::process::ExitCode;

use agent_runner::{AgentRunner, Config, Dependencies, ProvidersConfig, RunnerConfig, SessionsConfig};
use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, BusConfig, ConfigError, EgressConfig, HttpConfig, InternalConfig, PeersConfig, SecretsConfig, TelemetryConfig,
};
use service_kit::egress::Guard;
use service_kit::process::{self, Door, Process};
use service_kit::secrets::KeyRing;

/// The configuration of a process that is this microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    http: HttpConfig,
    bus: BusConfig,
    peers: PeersConfig,
    internal: InternalConfig,
    secrets: SecretsConfig,
    runner: RunnerConfig,
    sessions: SessionsConfig,
    providers: ProvidersConfig,
    callbacks: EgressConfig,
    telemetry: TelemetryConfig,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.bus.validate()?;
        self.internal.validate()?;
        self.secrets.validate()?;
        self.runner.validate()?;
        self.sessions.validate()?;
        self.providers.validate()?;
        self.telemetry.validate()
    }
}

fn main() -> ExitCode {
    process::main("agent-runner", Door::Internal, |settings| (&settings.http, &settings.telemetry), None, run)
}

async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let bus = bus::open(settings.bus.url.expose()).await?;
    let Settings { runner, sessions, providers, peers, .. } = settings;
    let dependencies = Dependencies {
        bus: bus.clone(),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        internal: settings.internal.clone(),
        keys: KeyRing::parse(&settings.secrets)?,
        egress: Guard::new(settings.callbacks.allow_networks),
        providers: Vec::new(),
        traces: process.traces.clone(),
    };
    let runner = AgentRunner::open(Config { runner, sessions, providers, peers }, dependencies).await?;
    let microservice = runner.microservice(process.shutdown.clone());
    let ended = process.run(vec![microservice], &settings.internal).await;
    bus.close().await;
    ended
}
