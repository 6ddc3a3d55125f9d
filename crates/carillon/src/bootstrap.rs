//! `carillon bootstrap`: the first API key of a running Carillon.
//!
//! It signs a token with the installation's secret and asks the public API, as any client could: that
//! brings the organisation into being and makes the key in one transaction. So it works wherever the API can be reached,
//! and when it fails there is nothing to clean up.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cli::{BootstrapArguments, Output};
use crate::config::Config;
use crate::operator::access::{base_of, own_token};
use crate::operator::api::{Api, Refusal};
use crate::output::print;

/// Makes the key and prints it.
pub(crate) async fn bootstrap(arguments: &BootstrapArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, Vec::new())?;
    let base = arguments.url.clone().unwrap_or_else(|| base_of(&config));
    let credentials = own_token(config, &arguments.place, &arguments.org, &arguments.user)?;
    let api = Api::new(&base, arguments.org.clone(), arguments.user.clone(), credentials)?;
    let made = create_key(arguments, &api).await?;
    let key = made["key"].as_str().context("the answer holds no key")?;
    match arguments.output {
        Output::Json => print(format_args!("{made}\n"))?,
        Output::Text => print(format_args!("{key}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_key(arguments: &BootstrapArguments, api: &Api) -> anyhow::Result<Value> {
    let body = json!({ "name": arguments.name, "platform_key": arguments.org, "expires_in": arguments.expires_in });
    let made = api.post(api.at(&["api", "core", "platform", "api-tokens"], ""), &body).await;
    made.map_err(|error| match error.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.text.contains("must make a unique set") => anyhow!(
            "the organisation `{}` has a key called `{}` already, and a key is shown only once: \
             choose another with --name, or delete that one",
            arguments.org,
            arguments.name
        ),
        Some(Refusal { base, status, .. }) if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            anyhow!(
                "{base} does not believe this installation's tokens ({status}): name its data directory with \
                 --data-dir, or its secret in CARILLON__AUTH__JWT_SECRET, with the same issuer and audience"
            )
        }
        _ => error,
    })
}
