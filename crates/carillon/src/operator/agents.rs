//! `carillon agents`: which there are; pause, resume and trigger one.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::access::Access;
use super::api::Api;
use super::runs;
use super::show::{self, Column, Shape};

const COLUMNS: &[Column] = &[
    ("id", "/id"),
    ("title", "/title"),
    ("mentor", "/mentor/name"),
    ("enabled", "/enabled"),
    ("paused", "/paused"),
    ("next fire", "/next_fire_time"),
    ("last status", "/last_status"),
    ("callbacks", "/callback_state"),
];

/// `carillon agents …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Print an organisation's agents, the newest first.
    #[command(after_help = "Example:\n  carillon agents list --org acme --search news")]
    List(ListArguments),
    /// Start no run of an agent until it is resumed.
    #[command(after_help = "Example:\n  carillon agents pause 7 --org acme --note \"the model is down\"")]
    Pause(PauseArguments),
    /// Let a paused agent fire again.
    #[command(after_help = "Example:\n  carillon agents resume 7 --org acme --catch-up latest")]
    Resume(ResumeArguments),
    /// Run an agent now, beside its schedule.
    #[command(after_help = "Example:\n  carillon agents trigger 7 --org acme --wait\n\n\
        With --wait it exits 0 if the run ends in success, 1 if not.")]
    Trigger(TriggerArguments),
}

/// `carillon agents list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those with these words in title, prompt or mentor.
    #[arg(long)]
    search: Option<String>,
    /// Only those whose newest run has this status: pending, running, success or error.
    #[arg(long)]
    status: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    count: usize,
    #[command(flatten)]
    access: Access,
}

/// `carillon agents pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArguments {
    /// Which agent.
    id: i64,
    /// Why, for whoever looks.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    access: Access,
}

/// `carillon agents resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// Which agent.
    id: i64,
    /// What becomes of the ticks in between: none, latest or all [default: as its schedule says].
    #[arg(long)]
    catch_up: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// `carillon agents trigger`.
#[derive(Debug, Args)]
pub(crate) struct TriggerArguments {
    /// Which agent.
    id: i64,
    /// Another prompt than the agent's.
    #[arg(long)]
    prompt: Option<String>,
    /// Wait until the run has ended.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, as 90s or 30m; the run goes on.
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration, requires = "wait")]
    wait_at_most: Duration,
    #[command(flatten)]
    access: Access,
}

/// Does it.
pub(crate) async fn run(command: &AgentsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AgentsCommand::List(arguments) => list(arguments).await,
        AgentsCommand::Pause(arguments) => {
            let body = json!({ "note": arguments.note });
            change(&arguments.access.open()?, arguments.id, "pause", &body, arguments.access.output).await
        }
        AgentsCommand::Resume(arguments) => {
            let body = arguments.catch_up.as_ref().map_or(json!({}), |catch_up| json!({ "catch_up": catch_up }));
            change(&arguments.access.open()?, arguments.id, "resume", &body, arguments.access.output).await
        }
        AgentsCommand::Trigger(arguments) => trigger(arguments).await,
    }
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let api = arguments.access.open()?;
    let filters = [("search", &arguments.search), ("status", &arguments.status)];
    let query: Vec<(&str, String)> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let found = api.list(api.of_agents("periodic-agents/"), &query, arguments.count).await?;
    show::rows(arguments.access.output, COLUMNS, &found)?;
    Ok(ExitCode::SUCCESS)
}

async fn change(api: &Api, id: i64, what: &str, body: &Value, output: Shape) -> anyhow::Result<ExitCode> {
    let agent = api.post(api.of_agents(&format!("periodic-agents/{id}/{what}/")), body).await?;
    show::fields(output, COLUMNS, &agent)
}

async fn trigger(arguments: &TriggerArguments) -> anyhow::Result<ExitCode> {
    let api = arguments.access.open()?;
    let body = arguments.prompt.as_ref().map_or(json!({}), |prompt| json!({ "prompt": prompt }));
    let log = api.post(api.of_agents(&format!("periodic-agents/{}/run/", arguments.id)), &body).await?;
    if arguments.wait {
        return runs::wait(&api, &log, arguments.wait_at_most, arguments.access.output).await;
    }
    runs::show(&log, arguments.access.output)
}
