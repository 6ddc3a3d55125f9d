//! `carillon bootstrap`: the first API key of a running Carillon.
//!
//! It signs a token of one minute with the installation's secret and asks the public API, as any client could: that
//! brings the organisation into being and makes the key in one transaction. So it works wherever the API can be reached,
//! and when it fails there is nothing to clean up.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service_kit::auth::{Caller, Role, issue_token};
use service_kit::clock::Clock;

use crate::cli::{BootstrapArguments, Output};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// How long the token is good: the time of one request.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the key and prints it.
pub(crate) fn bootstrap(arguments: &BootstrapArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, Vec::new())?;
    let configured = config.http.public_url.as_ref().map(ToString::to_string);
    let base = arguments.url.clone().or(configured).unwrap_or_else(|| format!("http://{}", config.http.listen));
    let auth = config.auth_of(&DataDir::at(&arguments.place.data_dir))?;
    let (username, organisation) = (arguments.user.clone(), Some(arguments.org.clone()));
    let caller = Caller { username, organisation, role: Role::TenantAdmin };
    let token = issue_token(&auth, &caller, TOKEN_LIFE, Clock::host().now())?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(create_key(arguments, &base, &token))?;
    let key = made["key"].as_str().context("the answer holds no key")?;
    match arguments.output {
        Output::Json => print(format_args!("{made}\n"))?,
        Output::Text => print(format_args!("{key}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_key(arguments: &BootstrapArguments, base: &str, token: &str) -> anyhow::Result<Value> {
    let url = format!("{}/api/core/platform/api-tokens/", base.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
    let body = json!({ "name": arguments.name, "platform_key": arguments.org, "expires_in": arguments.expires_in });
    let request = client.post(&url).bearer_auth(token).json(&body);
    let answer = request.send().await.with_context(|| format!("cannot reach {base}: is Carillon running there?"))?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("the answer of {base} broke off"))?;
    match status {
        StatusCode::CREATED => serde_json::from_str(&text).context("the answer is not JSON"),
        StatusCode::BAD_REQUEST if text.contains("must make a unique set") => bail!(
            "the organisation `{}` has a key called `{}` already, and a key is shown only once: \
             choose another with --name, or delete that one",
            arguments.org,
            arguments.name
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
            "{base} does not believe this installation's tokens ({status}): name its data directory with --data-dir, \
             or its secret in CARILLON__AUTH__JWT_SECRET, with the same issuer and audience"
        ),
        _ => bail!("{base} answered {status}: {text}"),
    }
}
