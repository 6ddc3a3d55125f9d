//! Burst: many schedules due at one instant, and nobody who takes the requests, so that only dispatching is measured.
//! Only the dispatcher runs; the bench announces the agents and watches the queue fill.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

use model::document::Schedule;

use crate::bare::{self, Shape};
use crate::bed::Bed;
use crate::celery_beat;
use crate::documents;
use crate::pipeline;
use crate::report::Report;
use crate::sample::Summary;

const QUEUE: &str = "carillon.agent-runner.runs";
/// How often the queue is looked at: how exact a lateness is.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Agents that show how fast the dispatcher takes them in, and where their ids begin.
const PROBE: usize = 500;
const PROBE_IDS: i64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(600);
/// Of messages, plain ones and such as ours; and of rows.
const LIMITS: [&str; 3] =
    ["bare publishes with confirms", "bare publishes of events, by an exchange", "bare claims and inserts"];
/// With fewer, the bare rate would be that of a beginning.
const BARE_MIN: usize = 10_000;

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How many are due at once; several times.
    #[arg(long)]
    due: Vec<usize>,
    /// How often each is measured: each takes a minute.
    #[arg(long)]
    runs: Option<usize>,
    /// Also let django-celery-beat dispatch so many, on the same servers (10,000 take it ten minutes).
    #[arg(long)]
    celery: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("burst", quick);
    let mut sizes = options.due.clone();
    if sizes.is_empty() {
        sizes = if quick { vec![1_000] } else { vec![1_000, 10_000, 100_000] };
    }
    for due in sizes {
        let runs = options.runs.unwrap_or(if quick || due > 10_000 { 1 } else { 3 });
        let bursts = measure(binaries, due, runs).await?;
        for (place, beside) in LIMITS.into_iter().enumerate() {
            let pairs: Vec<_> = bursts.iter().map(|burst| (burst.per_second, burst.limits[place])).collect();
            report.compare(format!("dispatched, {due} due"), "/s", beside, &pairs);
        }
        let lateness: Vec<Summary> = bursts.iter().map(|burst| burst.lateness).collect();
        report.add_times(&format!("lateness, {due} due"), &lateness);
        if options.celery.or((!quick).then_some(1_000)) == Some(due) {
            let peer = celery_beat::measure(due).await?;
            let pairs: Vec<_> = bursts.iter().map(|burst| (burst.per_second, peer.per_second)).collect();
            report.compare(format!("dispatched, {due} due"), "/s", peer.name(), &pairs);
            let pairs: Vec<_> = bursts.iter().map(|burst| (burst.lateness.p99_ms, peer.late_p99_ms)).collect();
            report.compare(format!("lateness, {due} due, p99"), "ms", peer.name(), &pairs);
        }
    }
    report.finish(output)
}

/// What one burst came to.
struct Burst {
    /// From the due time to the last request in the queue.
    per_second: f64,
    limits: [f64; LIMITS.len()],
    lateness: Summary,
}

/// What the machine does at most, in the order of [`LIMITS`].
async fn limits(bed: &Bed, count: usize) -> anyhow::Result<[f64; LIMITS.len()]> {
    Ok([
        bare::publishes(&bed.amqp_url(), count, Shape::Plain).await?,
        bare::publishes(&bed.amqp_url(), count, Shape::Event).await?,
        pipeline::claims(bed.stack.database("cron-dispatcher"), count).await?,
    ])
}

async fn measure(binaries: &Path, due: usize, runs: usize) -> anyhow::Result<Vec<Burst>> {
    let window = ("cron-dispatcher", "DISPATCHER__WINDOW", (due * runs + 1).to_string());
    let bed = Bed::start(binaries, &["cron-dispatcher"], vec![window]).await?;
    let mut at_most = Vec::new();
    for _ in 0..runs {
        at_most.push(limits(&bed, due.max(BARE_MIN)).await?);
    }
    let minutes = plant(&bed, &[(1, due)], runs, documents::at_minutes).await?;
    let depth = Watch::new(&bed).await?;
    let mut bursts = Vec::new();
    for (round, (minute, limits)) in minutes.into_iter().zip(at_most).enumerate() {
        let lateness = depth.filling(minute, round * due, due, &bed).await?;
        let last = lateness.last().copied().context("nothing was due")?;
        let per_second = bare::per_second(due, last);
        bursts.push(Burst { per_second, limits, lateness: Summary::of(lateness) });
    }
    depth.close().await?;
    bed.stop().await?;
    Ok(bursts)
}

/// Announces agents of organisations, `(organisation, agents)`, that are all due at `rounds` minutes one after the
/// other, and waits until they are planned. The minutes.
pub(crate) async fn plant(
    bed: &Bed,
    organisations: &[(i64, usize)],
    rounds: usize,
    schedule: impl Fn(&[DateTime<Utc>]) -> Schedule,
) -> anyhow::Result<Vec<DateTime<Utc>>> {
    let count: usize = organisations.iter().map(|(_, agents)| agents).sum();
    let loading = Duration::from_secs(5) + probe(bed).await? * u32::try_from(count.div_ceil(PROBE))? * 3 / 2;
    let now = bed.now();
    let first = documents::minute_after(now, loading);
    let minutes: Vec<_> =
        (0..rounds).map(|round| first + TimeDelta::minutes(i64::try_from(round).unwrap_or(0))).collect();
    announce(bed, organisations, &schedule(&minutes), 1).await?;
    let planned = "SELECT count(*) AS value FROM schedules WHERE next_fire_at IS NOT NULL";
    bed.counted("cron-dispatcher", planned, i64::try_from(count)?, PATIENCE).await?;
    eprintln!("{count} agents planned in {:.1} s", (bed.now() - now).as_seconds_f64());
    bed.analyse()?;
    ensure!(bed.now() < first, "the agents were not planned before they were due");
    Ok(minutes)
}

/// How long the dispatcher takes to hold a few agents that never fire.
async fn probe(bed: &Bed) -> anyhow::Result<Duration> {
    let (began, never) = (Instant::now(), Schedule { enabled: false, ..Schedule::default() });
    announce(bed, &[(0, PROBE)], &never, PROBE_IDS).await?;
    let held = "SELECT count(*) AS value FROM documents WHERE kind = 'agent'";
    bed.counted("cron-dispatcher", held, i64::try_from(PROBE)?, PATIENCE).await?;
    Ok(began.elapsed())
}

/// Announces organisations and their agents, numbered on from an id.
pub(crate) async fn announce(
    bed: &Bed,
    organisations: &[(i64, usize)],
    schedule: &Schedule,
    mut next_id: i64,
) -> anyhow::Result<()> {
    let now = bed.now();
    let owners = organisations.iter().flat_map(|(number, _)| documents::organisation(*number, now));
    bed.publish(documents::announcements(owners.collect())).await?;
    for (organisation, agents) in organisations {
        let documents = (0..*agents).map(|_| {
            next_id += 1;
            documents::agent(next_id, *organisation, schedule.clone(), None, now)
        });
        bed.publish(documents::announcements(documents.collect())).await?;
    }
    Ok(())
}

/// Looks at the queue of requests.
pub(crate) struct Watch {
    connection: Connection,
    channel: Channel,
}

impl Watch {
    pub(crate) async fn new(bed: &Bed) -> anyhow::Result<Self> {
        let connection = Connection::connect(&bed.amqp_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Self { connection, channel })
    }

    /// How many requests are in the queue.
    pub(crate) async fn depth(&self) -> anyhow::Result<usize> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await?;
        Ok(queue.message_count().try_into()?)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close(200, "done".into()).await?)
    }

    /// How late each of `count` requests was in the queue in which `before` are already, in order.
    pub(crate) async fn filling(
        &self,
        due: DateTime<Utc>,
        before: usize,
        count: usize,
        bed: &Bed,
    ) -> anyhow::Result<Vec<Duration>> {
        let wait = (due - bed.now()).to_std().context("the minute has passed")?;
        let at_due = Instant::now() + wait;
        tokio::time::sleep_until(at_due.into()).await;
        ensure!(self.depth().await? >= before, "requests of the minute before are missing");
        let mut lateness = Vec::with_capacity(count);
        while lateness.len() < count {
            let there = self.depth().await?.saturating_sub(before).min(count);
            lateness.resize(there.max(lateness.len()), at_due.elapsed());
            ensure!(at_due.elapsed() < PATIENCE, "{there} of {count} requests after {PATIENCE:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(lateness)
    }
}
