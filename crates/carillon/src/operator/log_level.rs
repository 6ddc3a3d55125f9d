//! `carillon log-level`: what processes log, asked and changed while they run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;

use super::access::Admin;
use super::show::{self, Column, Shape};
use crate::cli::MicroserviceName;

/// A process that does not answer for so long is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

const COLUMNS: &[Column] = &[("process", "/process"), ("logs", "/log")];

/// `carillon log-level`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon log-level\n  carillon log-level info,agent_runner=debug\n  \
    carillon log-level --reset --admin http://10.0.0.7:9090\n\n\
    It holds until the process ends. It needs `internal.key`, or the data directory that has it.")]
pub(crate) struct LogLevelArguments {
    /// What is to be logged from now on, as `telemetry.log`; nothing: only show what is.
    #[arg(value_name = "DIRECTIVES")]
    log: Option<String>,
    /// Log again what the configuration says.
    #[arg(long, conflicts_with = "log")]
    reset: bool,
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
    #[command(flatten)]
    admin: Admin,
}

/// Asks every process, or changes all of them.
pub(crate) async fn run(arguments: &LogLevelArguments) -> anyhow::Result<ExitCode> {
    let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let signer = InternalSigner::new(&arguments.admin.internal()?, "carillon");
    let wanted = if arguments.reset { Some("") } else { arguments.log.as_deref() };
    let mut rows = Vec::new();
    for url in arguments.admin.urls()? {
        let url = url.trim_end_matches('/');
        let log = ask(&client, &signer, url, wanted).await.with_context(|| url.to_owned())?;
        rows.push(json!({ "process": url, "log": log }));
    }
    show::rows(arguments.output, COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(client: &Client, signer: &InternalSigner, url: &str, wanted: Option<&str>) -> anyhow::Result<Value> {
    let names: Vec<String> = MicroserviceName::value_variants().iter().map(MicroserviceName::name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let token = signer.sign_for_any(&names, Clock::host().now())?;
    let method = if wanted.is_some() { Method::PUT } else { Method::GET };
    let request = client.request(method, format!("{url}/internal/log-level")).bearer_auth(token);
    let request = match wanted {
        Some(log) => request.json(&json!({ "log": log })),
        None => request,
    };
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let answer: Value = answer.json().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{status}: {}", answer["detail"].as_str().unwrap_or("this is no admin listener of Carillon"));
    }
    Ok(answer["log"].clone())
}
