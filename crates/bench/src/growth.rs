//! Growth: what a fire costs among a thousand schedules, and among a million. A thousand agents are due every minute;
//! the others, of which there are more and more, once a year.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use clap::Args;
use model::document::Schedule;

use crate::bed::Bed;
use crate::burst::{Watch, announce, plant};
use crate::documents;
use crate::report::Report;

/// Agents that are due every minute.
const DUE: usize = 1_000;
/// The one that is copied: due once a year, on a day that is not near.
const DISTANT_ID: i64 = 2_000_000_000;
const DISTANT_DAYS: i64 = 60;
/// The organisation of those that are not due.
const DISTANT_ORGANISATION: i64 = 2;
/// Requests that nobody takes while it is measured.
const WINDOW: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(600);
/// Before a minute that is measured.
const REST: Duration = Duration::from_secs(10);

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How many schedules there are, fewest first; several times.
    #[arg(long)]
    schedules: Vec<usize>,
    /// Minutes measured of each.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("growth", quick);
    let mut sizes = options.schedules.clone();
    if sizes.is_empty() {
        sizes = if quick { vec![1_000, 100_000] } else { vec![1_000, 10_000, 100_000, 1_000_000] };
    }
    let runs = options.runs.unwrap_or(if quick { 2 } else { 5 });
    let bed =
        Bed::start(binaries, &["cron-dispatcher"], vec![("cron-dispatcher", "DISPATCHER__WINDOW", WINDOW.to_string())])
            .await?;
    announce(&bed, &[(DISTANT_ORGANISATION, 1)], &distant(&bed), DISTANT_ID - 1).await?;
    plant(&bed, &[(1, DUE)], 1, |_| Schedule::default()).await?;
    let depth = Watch::new(&bed).await?;
    let mut least: Option<Vec<f64>> = None;
    for size in sizes {
        grow(&bed, size).await?;
        let mut costs = Vec::with_capacity(runs);
        for _ in 0..runs {
            let minute = documents::minute_after(bed.now(), REST);
            tokio::time::sleep((minute - bed.now() - TimeDelta::seconds(1)).to_std().unwrap_or_default()).await;
            let lateness = depth.filling(minute, depth.depth().await?, DUE, &bed).await?;
            let last = lateness.last().context("nothing was due")?;
            costs.push(last.as_secs_f64() * 1_000_000.0 / f64::from(u32::try_from(DUE)?));
        }
        let name = format!("a fire among {size} schedules");
        let pairs: Vec<_> = costs.iter().copied().zip(least.as_ref().unwrap_or(&costs).iter().copied()).collect();
        report.compare(name, "µs", "among the fewest", &pairs);
        least.get_or_insert(costs);
    }
    depth.close().await?;
    bed.stop().await?;
    report.finish(output)
}

/// A schedule that is due once a year.
fn distant(bed: &Bed) -> Schedule {
    let day = bed.now() - TimeDelta::days(DISTANT_DAYS);
    let mut schedule = documents::at_minutes(&[day]);
    schedule.crontab.hour = day.format("%-H").to_string();
    schedule.crontab.day_of_month = day.format("%-d").to_string();
    schedule.crontab.month_of_year = day.format("%-m").to_string();
    schedule
}

/// Copies the distant agent until there are so many schedules, and waits until PostgreSQL has counted them.
async fn grow(bed: &Bed, size: usize) -> anyhow::Result<()> {
    let there = bed.stack.query("cron-dispatcher", "SELECT count(*) AS value FROM schedules").await?;
    let there = there.first().copied().unwrap_or_default();
    let missing = i64::try_from(size)? - there;
    for (table, copied, key, id) in [
        (
            "documents",
            format!("copied.kind = 'agent' AND copied.key = '{DISTANT_ID}'"),
            "key",
            "(copied.key::bigint + number)::text",
        ),
        ("schedules", format!("copied.agent_id = {DISTANT_ID}"), "agent_id", "copied.agent_id + number"),
    ] {
        let copy = format!(
            "WITH made AS (
                 INSERT INTO {table} SELECT made.*
                   FROM {table} AS copied, generate_series({there}, {there} + {missing} - 1) AS number,
                        LATERAL jsonb_populate_record(copied, jsonb_build_object('{key}', {id})) AS made
                  WHERE {copied} RETURNING 1)
             SELECT count(*) AS value FROM made"
        );
        bed.stack.query("cron-dispatcher", &copy).await?;
    }
    let counted = "SELECT (n_mod_since_analyze < n_live_tup / 5 + 1000)::int::bigint AS value FROM pg_stat_user_tables
                    WHERE relname = 'schedules'";
    bed.counted("cron-dispatcher", counted, 1, PATIENCE).await
}
