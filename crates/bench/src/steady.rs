//! Steady: a thousand ticks a second for a minute, spread by the agents' jitter; how late each request is, and what each
//! microservice takes of the machine. Dispatcher and runner run; the runs are echoed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::TimeDelta;
use clap::Args;
use model::document::Schedule;
use model::run::RunRequest;
use model::wire::Wire;

use crate::bed::Bed;
use crate::burst::plant;
use crate::documents::at_minutes;
use crate::report::Report;
use crate::requests::listen;
use crate::sample::Summary;
use crate::{peers, usage};

const MICROSERVICES: [&str; 2] = ["cron-dispatcher", "agent-runner"];
/// The ticks of a minute are spread over so much of it.
const SPREAD: Duration = Duration::from_secs(59);
const PATIENCE: Duration = Duration::from_secs(300);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Ticks a second.
    #[arg(long)]
    rate: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("steady", quick);
    let rate = options.rate.unwrap_or(if quick { 200 } else { 1_000 });
    let count = rate * 60;
    let bed = Bed::start(binaries, &MICROSERVICES, Vec::new()).await?;
    peers::hold_runs(&bed.bus).await?;
    let spread = |schedule: Schedule| Schedule { jitter: SPREAD, ..schedule };
    let minutes = plant(&bed, &[(1, count)], 1, |minutes| spread(at_minutes(minutes))).await?;
    let mut requests = listen(&bed.amqp_url()).await?;
    let wait = (*minutes.first().context("no minute")? - bed.now()).to_std().context("the minute has passed")?;
    tokio::time::sleep(wait).await;
    let (began, now) = (Instant::now(), bed.now());
    let before = usage::of(&bed.stack, &MICROSERVICES)?;
    let mut came = Vec::with_capacity(count);
    while came.len() < count {
        let next = tokio::time::timeout_at((began + PATIENCE).into(), requests.recv()).await;
        came.push(next.with_context(|| format!("{} of {count} requests came", came.len()))?.context("no connection")?);
    }
    let after = usage::of(&bed.stack, &MICROSERVICES)?;
    let took = began.elapsed();
    let lateness = came.into_iter().map(|(at, body)| {
        let at = now + TimeDelta::from_std(at.saturating_duration_since(began))?;
        Ok((at - RunRequest::decode(&body)?.run.fire_time).to_std().unwrap_or_default())
    });
    let lateness = Summary::of(lateness.collect::<anyhow::Result<_>>()?);
    report.add_times(&format!("lateness at {rate} ticks a second"), &[lateness]);
    for (name, (before, after)) in MICROSERVICES.iter().zip(before.into_iter().zip(after)) {
        report.add(format!("{name}: processor"), "% of one", [usage::percent(before, after, took)]);
        report.add(format!("{name}: memory"), "MB", [after.memory_megabytes]);
    }
    bed.stop().await?;
    report.finish(output)
}
