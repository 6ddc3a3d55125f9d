//! Fairness: five agents of one organisation, due at the moment at which a hundred thousand of another are. Dispatcher
//! and runner run, with the window that they have by default; a run is asked for when the dispatcher's table lets it go.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use model::run::RunRequest;
use model::wire::Wire;

use crate::bed::Bed;
use crate::burst::plant;
use crate::documents::at_minutes;
use crate::peers;
use crate::report::Report;
use crate::requests::listen;
use crate::sample::Summary;

const MANY: i64 = 1;
const FEW: i64 = 2;
const FEW_AGENTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(600);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Agents of the large organisation.
    #[arg(long)]
    agents: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("fairness", quick);
    let agents = options.agents.unwrap_or(if quick { 5_000 } else { 100_000 });
    let alone = measure(binaries, &[(MANY, agents)]).await?;
    let together = measure(binaries, &[(MANY, agents), (FEW, FEW_AGENTS)]).await?;
    let few = Summary::of(together[&FEW].clone());
    report.add_times(&format!("lateness of {FEW_AGENTS} agents beside {agents}"), &[few]);
    let last = |lateness: &HashMap<i64, Vec<Duration>>| Summary::of(lateness[&MANY].clone()).max_ms / 1_000.0;
    report.compare(
        format!("the last of {agents} requested, beside {FEW_AGENTS} of another"),
        "s",
        "alone",
        &[(last(&together), last(&alone))],
    );
    report.finish(output)
}

/// How late each request was, by organisation.
async fn measure(binaries: &Path, organisations: &[(i64, usize)]) -> anyhow::Result<HashMap<i64, Vec<Duration>>> {
    let bed = Bed::start(binaries, &["cron-dispatcher", "agent-runner"], Vec::new()).await?;
    peers::hold_runs(&bed.bus).await?;
    let minutes = plant(&bed, organisations, 1, at_minutes).await?;
    let mut requests = listen(&bed.amqp_url()).await?;
    let count: usize = organisations.iter().map(|(_, agents)| agents).sum();
    let due = *minutes.first().context("no minute")?;
    let at_due = Instant::now() + (due - bed.now()).to_std().context("the minute has passed")?;
    let mut came = Vec::with_capacity(count);
    while came.len() < count {
        let next = tokio::time::timeout_at((at_due + PATIENCE).into(), requests.recv()).await;
        came.push(next.with_context(|| format!("{} of {count} requests came", came.len()))?.context("no connection")?);
    }
    let mut lateness: HashMap<i64, Vec<Duration>> = HashMap::new();
    for (at, body) in came {
        let request = RunRequest::decode(&body)?;
        let number = request.run.organisation.as_str().trim_start_matches("org-").parse()?;
        lateness.entry(number).or_default().push(at.saturating_duration_since(at_due));
    }
    settle(&bed, due).await?;
    bed.stop().await?;
    Ok(lateness)
}

/// Waits until nothing of it runs any more.
async fn settle(bed: &Bed, due: DateTime<Utc>) -> anyhow::Result<()> {
    let until = (due + TimeDelta::minutes(1)).to_rfc3339();
    let ended = format!(
        "SELECT CASE WHEN count(*) = 0 THEN 1 ELSE 0 END::bigint AS value FROM runs WHERE ended_at IS NULL AND fire_time < '{until}'"
    );
    bed.counted("cron-dispatcher", &ended, 1, PATIENCE).await
}
