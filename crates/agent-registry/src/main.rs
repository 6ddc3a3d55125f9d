//! agent-registry alone in its process.

use std::process::ExitCode;

use agent_registry::{AgentRegistry, Config, Dependencies, ProviderNames, RegistryConfig, SessionsConfig};
use serde::{Deserialize, Serialize};
use service_kit::config::{
    self, AuthConfig, BusConfig, ConfigError, DatabaseConfig, EgressConfig, HttpConfig, InternalConfig, PeersConfig,
    SecretsConfig, TelemetryConfig,
};
use service_kit::egress::Guard;
use service_kit::process::{self, Door, OwnDatabase, Process};
use service_kit::secrets::KeyRing;

/// The configuration of a process that is this microservice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    http: HttpConfig,
    database: DatabaseConfig,
    bus: BusConfig,
    peers: PeersConfig,
    auth: AuthConfig,
    internal: InternalConfig,
    secrets: SecretsConfig,
    sessions: SessionsConfig,
    registry: RegistryConfig,
    providers: ProviderNames,
    callbacks: EgressConfig,
    telemetry: TelemetryConfig,
}

impl config::Settings for Settings {
    fn validate(&self) -> Result<(), ConfigError> {
        self.http.validate()?;
        self.database.validate()?;
        self.bus.validate()?;
        self.auth.validate()?;
        self.internal.validate()?;
        self.secrets.validate()?;
        self.registry.validate()?;
        self.telemetry.validate()
    }
}

const DATABASE: OwnDatabase<Settings> =
    OwnDatabase { config: |settings| &settings.database, migrations: agent_registry::migrations };

fn main() -> ExitCode {
    process::main("agent-registry", Door::Public, |settings| (&settings.http, &settings.telemetry), Some(DATABASE), run)
}

async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let bus = bus::open(settings.bus.url.expose()).await?;
    let own = Config {
        cron_dispatcher_url: settings.peers.cron_dispatcher_url,
        callback_deliverer_url: settings.peers.callback_deliverer_url,
        public_url: settings.http.public_url,
        session_jwks: settings.sessions.jwks,
        provider_names: settings.providers.names.into_iter().collect(),
        default_provider: settings.providers.default,
        registry: settings.registry,
    };
    let dependencies = Dependencies {
        database: settings.database,
        bus: bus.clone(),
        clock: process.clock.clone(),
        readiness: process.readiness.clone(),
        auth: settings.auth,
        internal: settings.internal.clone(),
        keys: KeyRing::parse(&settings.secrets)?,
        egress: Guard::new(settings.callbacks.allow_networks),
    };
    let registry = AgentRegistry::open(own, dependencies).await?;
    let microservice = registry.microservice(process.shutdown.clone());
    let ended = process.run(vec![microservice], &settings.internal).await;
    bus.close().await;
    ended
}
