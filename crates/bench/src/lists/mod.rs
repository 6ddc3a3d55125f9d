//! Lists: a million agents and ten million logs, one organisation holding half, each filter of the API asked again and
//! again with its exact count. PostgreSQL writes down how it read the tables, and none of it may be from end to end.

mod plans;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use serde::Serialize;
use serde_json::Value;
use test_kit::{Api, Carillon, Setup};

use crate::sample::Summary;

/// How many rows, and how often each list is asked for.
#[derive(Args)]
pub(crate) struct Options {
    /// Agents in all; each has ten logs. Half of them are of one organisation.
    #[arg(long, default_value_t = 1_000_000)]
    agents: u32,
    /// Requests for each list.
    #[arg(long, default_value_t = 200)]
    requests: usize,
}

/// The organisation that holds half, and its administrator.
const ORGANISATION: &str = "half";
const USER: &str = "user-1";
const LOAD: &str = include_str!("load.sql");

/// Each filter that the API knows, as a list with it is asked for. `{…}` stands for something that exists.
const AGENT_LISTS: [&str; 14] = [
    "",
    "page=200",
    "enabled=true",
    "enabled=false",
    "mentor_id={mentor}",
    "parent_mentor_id=7",
    "parent_session_id=session-7",
    "previous_agent={previous}",
    "previous_agent_status=error",
    "status=success",
    "status=error",
    "status=pending",
    "title=Agent 4711",
    "username=user-7",
];
const LOG_LISTS: [&str; 10] = [
    "",
    "page=200",
    "mentor_id={mentor}",
    "parent_mentor_id=7",
    "parent_session_id=session-7",
    "periodic_agent={agent}",
    "status=success",
    "status=error",
    "status=running",
    "username=user-7",
];
/// Searches are bounded in time, not in what they look at.
const SEARCHES: [&str; 4] = [
    "periodic-agents/?search=4711",
    "periodic-agents/?search=nowhere-to-be-found",
    "periodic-agent-logs/?search=nowhere-to-be-found",
    "periodic-agent-logs/?search=nowhere-to-be-found&periodic_agent={agent}",
];

#[derive(Serialize)]
struct Figure {
    list: String,
    count: Option<i64>,
    #[serde(flatten)]
    summary: Summary,
}

/// Loads, asks, prints, and fails if a table was read from end to end.
pub(crate) async fn run(binary: &Path, output: &Path, options: &Options) -> anyhow::Result<()> {
    let server = std::env::vars().find(|(name, _)| name == "CARILLON_TEST_POSTGRES_URL").map(|(_, url)| url);
    let server = server.context("CARILLON_TEST_POSTGRES_URL is not set: `make bench-lists` sets it")?;
    let (host, _) = server.rsplit_once('/').context("CARILLON_TEST_POSTGRES_URL names no database")?;
    let url = format!("{host}/bench_lists");
    execute(&server, "DROP DATABASE IF EXISTS bench_lists WITH (FORCE)")?;
    execute(&server, "CREATE DATABASE bench_lists")?;
    let measured = measure(binary, &url, options).await;
    execute(&server, "DROP DATABASE bench_lists WITH (FORCE)")?;
    let figures = measured?;
    std::fs::create_dir_all(output)?;
    std::fs::write(output.join("lists.json"), serde_json::to_vec_pretty(&figures)?)?;
    Ok(())
}

async fn measure(binary: &Path, url: &str, options: &Options) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let setup = Setup::new(binary, folder.path().join("data")).with("CARILLON__DATABASE__AGENT_REGISTRY_URL", url);
    // Its migrations make the tables.
    setup.start().await?.stop().await?;
    let began = Instant::now();
    execute(url, &LOAD.replace(":agents", &options.agents.to_string()))?;
    // As autovacuum would have done by and by.
    execute(url, "VACUUM ANALYZE")?;
    eprintln!("{} agents and {} logs loaded in {:.0?}", options.agents, options.agents * 10, began.elapsed());
    let plans = plans::Plans::record(url)?;
    let carillon = setup.start().await?;
    let api = carillon.api(ORGANISATION, USER).await?;
    let figures = ask_all(&api, options.requests).await?;
    stop(carillon).await?;
    plans.verify()?;
    Ok(figures)
}

async fn stop(carillon: Carillon) -> anyhow::Result<()> {
    let code = carillon.stop().await?;
    ensure!(code == Some(0), "carillon ended with {code:?}");
    Ok(())
}

async fn ask_all(api: &Api, requests: usize) -> anyhow::Result<Vec<Figure>> {
    let some = api.get("periodic-agents/?ordering=id&page_size=1&previous_agent_status=error").await?;
    let agent = some["results"][0]["id"].as_i64().context("no agent")?;
    let mentor = some["results"][0]["mentor"]["unique_id"].as_str().context("no mentor")?.to_owned();
    let name = |list: &str| {
        let list = list.replace("{mentor}", &mentor).replace("{agent}", &agent.to_string());
        // The load makes each whose id ends with 99 follow the second before it.
        list.replace("{previous}", &((agent / 100 + 1) * 100 - 3).to_string())
    };
    println!("| list | count | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|");
    let mut figures = Vec::new();
    let agents = AGENT_LISTS.map(|query| ("periodic-agents/", query));
    let logs = LOG_LISTS.map(|query| ("periodic-agent-logs/", query));
    for (path, query) in agents.into_iter().chain(logs) {
        figures.push(ask(api, &name(&format!("{path}?{query}")), requests).await?);
    }
    figures.push(ask(api, "periodic-agents/statistics/", requests).await?);
    for search in SEARCHES {
        figures.push(ask(api, &name(search), requests.min(3)).await?);
    }
    Ok(figures)
}

async fn ask(api: &Api, list: &str, requests: usize) -> anyhow::Result<Figure> {
    let mut times = Vec::with_capacity(requests);
    let mut answer = Value::Null;
    for _ in 0..requests.max(1) {
        let began = Instant::now();
        (_, answer) = api.call("GET".parse()?, list, None).await?;
        times.push(began.elapsed());
    }
    let count = answer["count"].as_i64().or(answer["total_tasks"].as_i64());
    let summary = Summary::of(times);
    let told = count.map_or_else(|| answer["detail"].to_string(), |count| count.to_string());
    println!("| {list} | {told} | {:.1} | {:.1} | {:.1} |", summary.p50_ms, summary.p99_ms, summary.max_ms);
    Ok(Figure { list: list.to_owned(), count, summary })
}

/// Runs statements, however long they take.
fn execute(url: &str, statements: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::establish(url)?;
    connection.batch_execute(statements)?;
    Ok(())
}
