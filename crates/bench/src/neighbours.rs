//! Neighbours: what ninety receivers notice of ten others that hang.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::delivery::{Deliverer, latencies};
use crate::report::Report;
use crate::sample::Summary;

const AGENTS: usize = 100;
const HANGING: usize = 10;
/// As long as the deliverer waits at most.
const HANGS: Duration = Duration::from_secs(15);
const RATE: u32 = 400;
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How often each is measured.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("neighbours", quick);
    let runs = options.runs.unwrap_or(if quick { 1 } else { 5 });
    let duration = Duration::from_secs(if quick { 8 } else { 20 });
    let deliverer = Deliverer::start(binaries).await?;
    let healthy = deliverer.endpoints(AGENTS, Duration::ZERO).await?;
    deliverer.flood(&healthy, 5_000).await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        without.push(measure(&deliverer, &healthy, &healthy[HANGING..], duration).await?);
        let hanging = deliverer.endpoints(HANGING, HANGS).await?;
        let mixed = [&hanging[..], &healthy[HANGING..]].concat();
        with.push(measure(&deliverer, &mixed, &healthy[HANGING..], duration).await?);
        deliverer.remove(&hanging).await?;
        // What is on its way to them ends.
        tokio::time::sleep(HANGS).await;
        deliverer.sink.take(0, PATIENCE).await?;
    }
    let pairs = |of: fn(&Summary) -> f64| with.iter().map(of).zip(without.iter().map(of)).collect::<Vec<_>>();
    report.compare("90 receivers beside 10 that hang, 400/s, p50", "ms", "beside none", &pairs(|one| one.p50_ms));
    report.compare("90 receivers beside 10 that hang, 400/s, p99", "ms", "beside none", &pairs(|one| one.p99_ms));
    report.compare("90 receivers beside 10 that hang, 400/s, latest", "ms", "beside none", &pairs(|one| one.max_ms));
    deliverer.stop().await?;
    report.finish(output)
}

/// The latency of those among `agents` that are watched.
async fn measure(
    deliverer: &Deliverer,
    agents: &[i64],
    watched: &[i64],
    duration: Duration,
) -> anyhow::Result<Summary> {
    let sent = deliverer.announce_at_rate(agents, RATE, duration).await?;
    let watched: HashSet<i64> = watched.iter().copied().collect();
    let healthy: Vec<_> = sent.iter().filter(|one| watched.contains(&one.agent)).copied().collect();
    let (ids, began): (Vec<i64>, _) = (healthy.iter().map(|one| one.id).collect(), Instant::now());
    while deliverer.sink.came(&ids) < ids.len() {
        ensure!(began.elapsed() < PATIENCE, "{} of {} callbacks came", deliverer.sink.came(&ids), ids.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Summary::of(latencies(&healthy, &deliverer.sink.take(0, PATIENCE).await?)))
}
