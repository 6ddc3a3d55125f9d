//! `carillon deliveries`: results on their way to receivers, and send some again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::access::Access;
use super::api::Api;
use super::show::{self, Column};

/// Between two looks at a replay.
const LOOK: Duration = Duration::from_millis(500);

const COLUMNS: &[Column] = &[
    ("delivery", "/id"),
    ("agent", "/periodic_agent"),
    ("log", "/log"),
    ("event", "/event"),
    ("status", "/status"),
    ("attempts", "/delivery_attempts_made"),
    ("next attempt", "/next_delivery_attempt_at"),
    ("reason", "/reason"),
    ("made", "/created_at"),
];

const REPLAY: &[Column] = &[
    ("replay", "/id"),
    ("state", "/state"),
    ("agent", "/periodic_agent"),
    ("since", "/since"),
    ("replayed", "/replayed"),
    ("of", "/total"),
];

/// `carillon deliveries …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveriesCommand {
    /// Print an organisation's deliveries, the newest first.
    #[command(after_help = "Example:\n  carillon deliveries list --org acme --status exhausted")]
    List(ListArguments),
    /// Deliver again: one, or all since some time as a job that this waits for.
    #[command(after_help = "Example:\n  carillon deliveries replay 9 --org acme\n  \
        carillon deliveries replay --org acme --since 2026-11-20T00:00:00Z --status exhausted --agent 7")]
    Replay(ReplayArguments),
}

/// `carillon deliveries list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those of this agent.
    #[arg(long)]
    agent: Option<i64>,
    /// Only those with this status, as pending, delivered, exhausted or held.
    #[arg(long)]
    status: Option<String>,
    /// Only those made later than this.
    #[arg(long, value_name = "RFC 3339")]
    created_after: Option<DateTime<Utc>>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    count: usize,
    #[command(flatten)]
    access: Access,
}

/// `carillon deliveries replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The delivery.
    #[arg(required_unless_present = "since")]
    id: Option<i64>,
    /// All that were made since.
    #[arg(long, value_name = "RFC 3339", conflicts_with = "id")]
    since: Option<DateTime<Utc>>,
    /// Of those, only this agent's.
    #[arg(long, requires = "since")]
    agent: Option<i64>,
    /// Of those, only the ones with this status [default: exhausted].
    #[arg(long, requires = "since")]
    status: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Does it.
pub(crate) async fn run(command: &DeliveriesCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeliveriesCommand::List(arguments) => list(arguments).await,
        DeliveriesCommand::Replay(arguments) => replay(arguments).await,
    }
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let api = arguments.access.open()?;
    let agent = arguments.agent.map(|agent| ("periodic_agent", agent.to_string()));
    let status = arguments.status.as_ref().map(|status| ("status", status.clone()));
    let after = arguments.created_after.map(|after| ("created_after", after.to_rfc3339()));
    let query: Vec<(&str, String)> = agent.into_iter().chain(status).chain(after).collect();
    let found = api.list(api.of_callbacks("deliveries/"), &query, arguments.count).await?;
    show::rows(arguments.access.output, COLUMNS, &found)?;
    Ok(ExitCode::SUCCESS)
}

async fn replay(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let api = arguments.access.open()?;
    if let Some(id) = arguments.id {
        let path = api.of_callbacks(&format!("deliveries/{id}/replay/"));
        return show::fields(arguments.access.output, COLUMNS, &api.post(path, &json!({})).await?);
    }
    let mut body = json!({ "since": arguments.since });
    if let Some(agent) = arguments.agent {
        body["periodic_agent"] = agent.into();
    }
    if let Some(status) = &arguments.status {
        body["status"] = status.as_str().into();
    }
    let job = api.post(api.of_callbacks("replays/"), &body).await?;
    show::fields(arguments.access.output, REPLAY, &finished(&api, job).await?)
}

/// Follows a replay to its end. Whoever stops following does not stop it.
async fn finished(api: &Api, mut job: Value) -> anyhow::Result<Value> {
    let id = job["id"].as_i64().context("the answer has no id of a replay")?;
    let progress = ProgressBar::new(job["total"].as_u64().unwrap_or(0))
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} deliveries, {eta} left")?);
    while job["finished_at"].is_null() {
        tokio::time::sleep(LOOK).await;
        job = api.get(api.of_callbacks(&format!("replays/{id}/")), &[]).await?;
        progress.set_length(job["total"].as_u64().unwrap_or(0));
        progress.set_position(job["replayed"].as_u64().unwrap_or(0));
    }
    progress.finish_and_clear();
    Ok(job)
}
