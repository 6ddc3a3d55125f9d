//! Idle: what every microservice takes while many agents are planned and none is due.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use model::crontab::CrontabFields;
use model::document::{Document, Endpoint, Schedule};

use crate::bed::Bed;
use crate::documents;
use crate::report::Report;
use crate::{peers, usage};

const MICROSERVICES: [&str; 3] = ["cron-dispatcher", "agent-runner", "callback-deliverer"];
/// Documents published before their holders are waited for.
const PIECE: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(900);
/// What was begun while they were announced is done.
const REST: Duration = Duration::from_secs(10);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How many agents; several times.
    #[arg(long)]
    agents: Vec<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("idle", quick);
    let mut sizes = options.agents.clone();
    if sizes.is_empty() {
        sizes = if quick { vec![10_000] } else { vec![100_000, 1_000_000] };
    }
    let watched = Duration::from_secs(if quick { 10 } else { 60 });
    let bed = Bed::start(binaries, &MICROSERVICES, Vec::new()).await?;
    peers::drain(&bed.bus, bus::Queue::AgentRegistryDocumentsHeld).await?;
    bed.publish(documents::announcements(documents::organisation(1, bed.now()).into())).await?;
    let mut held = 0;
    for size in sizes {
        let began = Instant::now();
        while held < size {
            let next = (held + PIECE).min(size);
            let agents = (held..next).map(|number| distant(&bed, number)).collect::<anyhow::Result<_>>()?;
            bed.publish(documents::announcements(agents)).await?;
            for (name, table) in [("cron-dispatcher", "schedules"), ("callback-deliverer", "endpoints")] {
                let statement = format!("SELECT count(*) AS value FROM {table}");
                bed.counted(name, &statement, i64::try_from(next)?, PATIENCE).await?;
            }
            held = next;
        }
        eprintln!("{size} agents held after {:.0?}", began.elapsed());
        tokio::time::sleep(REST).await;
        let before = usage::of(&bed.stack, &MICROSERVICES)?;
        tokio::time::sleep(watched).await;
        let after = usage::of(&bed.stack, &MICROSERVICES)?;
        for (name, (before, after)) in MICROSERVICES.iter().zip(before.into_iter().zip(after)) {
            let of = format!("{name}, {size} agents");
            report.add(format!("{of}: processor"), "% of one", [usage::percent(before, after, watched)]);
            report.add(format!("{of}: memory"), "MB", [after.memory_megabytes]);
        }
    }
    bed.stop().await?;
    report.finish(output)
}

/// An agent that is due once a year, on a day that is not near.
fn distant(bed: &Bed, number: usize) -> anyhow::Result<Document> {
    let (now, id) = (bed.now(), i64::try_from(number)? + 1);
    let day = now - chrono::TimeDelta::days(60);
    let field = |format: &str| day.format(format).to_string();
    let crontab = CrontabFields {
        minute: field("%-M"),
        hour: field("%-H"),
        day_of_month: field("%-d"),
        month_of_year: field("%-m"),
        ..CrontabFields::default()
    };
    let endpoint = Endpoint::new("https://receiver.example/".to_owned(), Vec::new());
    Ok(documents::agent(id, 1, Schedule { crontab, ..Schedule::default() }, Some(endpoint), now))
}
