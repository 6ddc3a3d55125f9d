//! Configuration: defaults in code, then a TOML file, then the environment, then what the command line overrides.
//!
//! A microservice composes its configuration from the sections here and its own, each `#[serde(deny_unknown_fields,
//! default)]`, and implements [`Settings`]. The environment says `CARILLON__HTTP__LISTEN` for `listen` in `[http]`; an
//! empty variable counts as not set. A key that nobody knows is an error that names it and where it came from.

pub mod comma_list;
mod connection_url;
mod error;
mod load;
mod sections;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use connection_url::ConnectionUrl;
pub use error::ConfigError;
pub use load::{effective, load, process_environment, without_source};
pub use sections::{
    AuthConfig, BusConfig, ClaimsConfig, DatabaseConfig, EgressConfig, HttpConfig, InternalConfig, LogFormat,
    PeersConfig, SecretsConfig, TelemetryConfig, in_range,
};

/// The whole configuration of a microservice.
pub trait Settings: DeserializeOwned + Serialize {
    /// Checks every section; [`load`] calls it.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work, by key and value.
    fn validate(&self) -> Result<(), ConfigError>;
}
