//! `carillon runs`: which there were, what came of one, and stop one.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::access::Access;
use super::api::Api;
use super::show::{self, Column, Shape};

/// Between two looks at a run that is waited for.
const LOOK: Duration = Duration::from_millis(500);

const COLUMNS: &[Column] = &[
    ("log", "/id"),
    ("agent", "/periodic_agent"),
    ("status", "/state"),
    ("reason", "/reason"),
    ("trigger", "/trigger"),
    ("fire time", "/fire_time"),
    ("late (ms)", "/lateness_ms"),
    ("ended", "/end_time"),
];

/// What is shown of one beside the columns.
const MORE: &[Column] = &[("sequence", "/sequence"), ("run attempt", "/run_attempt"), ("log lines", "/content")];

/// `carillon runs …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Print an organisation's runs, the newest first.
    #[command(after_help = "Example:\n  carillon runs list --org acme --agent 7 --status error")]
    List(ListArguments),
    /// Print one run with its log.
    #[command(after_help = "Example:\n  carillon runs show 17950000000001 --org acme")]
    Show(OneArguments),
    /// Stop a run: it ends as `error`, reason `cancelled`, and is called back.
    #[command(after_help = "Example:\n  carillon runs cancel 17950000000001 --org acme")]
    Cancel(OneArguments),
}

/// `carillon runs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those of this agent.
    #[arg(long)]
    agent: Option<i64>,
    /// Only those with this status: pending, running, success or error.
    #[arg(long)]
    status: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    count: usize,
    #[command(flatten)]
    access: Access,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// Its log's id.
    id: i64,
    #[command(flatten)]
    access: Access,
}

/// Does it.
pub(crate) async fn run(command: &RunsCommand) -> anyhow::Result<ExitCode> {
    match command {
        RunsCommand::List(arguments) => list(arguments).await,
        RunsCommand::Show(arguments) => {
            let api = arguments.access.open()?;
            show(&find(&api, arguments.id).await?, arguments.access.output)
        }
        RunsCommand::Cancel(arguments) => {
            let api = arguments.access.open()?;
            let path = api.of_agents(&format!("periodic-agent-logs/{}/cancel/", arguments.id));
            show(&api.post(path, &json!({})).await?, arguments.access.output)
        }
    }
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let api = arguments.access.open()?;
    let agent = arguments.agent.map(|agent| ("periodic_agent", agent.to_string()));
    let status = arguments.status.as_ref().map(|status| ("status", status.clone()));
    let query: Vec<(&str, String)> = agent.into_iter().chain(status).collect();
    let found = api.list(api.of_agents("periodic-agent-logs/"), &query, arguments.count).await?;
    show::rows(arguments.access.output, COLUMNS, &found)?;
    Ok(ExitCode::SUCCESS)
}

async fn find(api: &Api, id: i64) -> anyhow::Result<Value> {
    api.get(api.of_agents(&format!("periodic-agent-logs/{id}/")), &[]).await
}

/// Prints a run with its log.
pub(super) fn show(log: &Value, output: Shape) -> anyhow::Result<ExitCode> {
    show::fields(output, &[COLUMNS, MORE].concat(), log)
}

/// Waits until a run has ended, and prints it.
pub(super) async fn wait(api: &Api, log: &Value, at_most: Duration, output: Shape) -> anyhow::Result<ExitCode> {
    let id = log["id"].as_i64().context("the answer has no log id")?;
    // Hidden by itself where no terminal is.
    let progress = ProgressBar::new_spinner().with_message(format!("run {id} goes on"));
    progress.enable_steady_tick(Duration::from_millis(100));
    let ended = async {
        loop {
            let log = find(api, id).await?;
            if !log["end_time"].is_null() {
                return anyhow::Ok(log);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let Ok(ended) = tokio::time::timeout(at_most, ended).await else {
        bail!("run {id} has not ended after {}: it goes on", humantime::format_duration(at_most))
    };
    let ended = ended?;
    progress.finish_and_clear();
    show(&ended, output)?;
    Ok(if ended["state"] == "success" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
