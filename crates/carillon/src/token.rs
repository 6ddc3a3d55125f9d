//! `carillon token`: a token for the API, signed with the configured secret.

use std::process::ExitCode;

use anyhow::bail;
use service_kit::auth::{Caller, Role, issue_token};
use service_kit::clock::Clock;

use crate::cli::{RoleName, TokenArguments};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// Prints a token.
pub(crate) fn token(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    let role = match arguments.role {
        RoleName::PlatformAdmin => Role::PlatformAdmin,
        RoleName::TenantAdmin => Role::TenantAdmin,
        RoleName::None => Role::None,
    };
    if arguments.org.is_none() && role != Role::PlatformAdmin {
        bail!("--org is missing: only a platform administrator's token has no organisation");
    }
    let data = DataDir::at(&arguments.place.data_dir);
    let auth = Config::load(&arguments.place, Vec::new())?.auth_of(&data)?;
    let caller = Caller { username: arguments.user.clone(), organisation: arguments.org.clone(), role };
    let token = issue_token(&auth, &caller, arguments.ttl, Clock::host().now())?;
    print(format_args!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}
