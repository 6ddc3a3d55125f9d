//! Kills: a deliverer killed in the middle of a flood, and how long after its restart the last callback comes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::delivery::Deliverer;
use crate::report::Report;

const AGENTS: usize = 100;
const FLOOD: usize = 5_000;
/// It dies when so many have come.
const COME: usize = 1_000;
const DOWN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How often it is killed.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("kills", quick);
    let (mut last, mut repeated) = (Vec::new(), Vec::new());
    let mut deliverer = Deliverer::start(binaries).await?;
    let agents = deliverer.endpoints(AGENTS, Duration::ZERO).await?;
    for _ in 0..options.runs.unwrap_or(if quick { 1 } else { 5 }) {
        deliverer.announce(&agents, FLOOD).await?;
        deliverer.sink.wait_for(COME, PATIENCE).await?;
        let killed = deliverer.bed.stack.replica("callback-deliverer", 1);
        killed.kill().await?;
        let came = deliverer.sink.wait_for(0, PATIENCE).await?;
        ensure!(came < FLOOD, "it was killed too late: all had come");
        tokio::time::sleep(DOWN).await;
        let restarted = Instant::now();
        killed.start()?;
        let received = deliverer.sink.take(FLOOD, PATIENCE).await?;
        last.push(received.last()?.saturating_duration_since(restarted).as_secs_f64());
        repeated.push(f64::from(u32::try_from(received.repeated)?));
        deliverer.bed.stack.all_ready().await?;
    }
    report.add(format!("kill -9 in a flood of {FLOOD}: last callback after the restart"), "s", last);
    report.add(format!("kill -9 in a flood of {FLOOD}: repeated callbacks"), "", repeated);
    deliverer.stop().await?;
    report.finish(output)
}
