//! `carillon keys env`: the keys of an installation, for a microservice that runs alone.
//!
//! Each gets only the keys that it needs, so that no microservice can do what is another's.

use std::process::ExitCode;

use crate::cli::{KeysEnvArguments, MicroserviceName};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// Prints the keys as exports for a shell, making them first if there are none.
pub(crate) fn env(arguments: &KeysEnvArguments) -> anyhow::Result<ExitCode> {
    let data = DataDir::open(&arguments.place.data_dir)?;
    let config = Config::load(&arguments.place, Vec::new())?.with_keys_of(&data)?;
    let jwt_secret = ("AUTH__JWT_SECRET", config.auth.jwt_secret.expose().clone());
    let internal = ("INTERNAL__KEY", config.internal.key.expose().clone());
    let secrets = ("SECRETS__KEYS", config.secrets.keys.expose().clone());
    let jwks = ("SESSIONS__JWKS", agent_runner::public_jwks(&config.sessions)?);
    let variables = match arguments.microservice {
        MicroserviceName::AgentRegistry => vec![jwt_secret, internal, secrets, jwks],
        MicroserviceName::ServiceRegistry => vec![jwt_secret, internal, jwks],
        MicroserviceName::CronDispatcher => vec![internal],
        MicroserviceName::AgentRunner => {
            vec![internal, secrets, ("SESSIONS__KEY", config.sessions.key.expose().clone())]
        }
        MicroserviceName::CallbackDeliverer => vec![internal, secrets],
    };
    for (name, value) in variables {
        // No key contains a single quote: they are base64, PEM or JSON of these.
        print(format_args!("export CARILLON__{name}='{value}'\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
