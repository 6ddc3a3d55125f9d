//! End to end: agents made through the API, ticks, echo runs, and POSTs that a receiver verified; how many a second
//! when all are due at one instant, and how soon when fifty a second are. On both pairs: PostgreSQL and RabbitMQ with
//! each microservice a process of its own, and `carillon up`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use model::document::Schedule;
use model::id::AgentId;
use model::schedule::Timing;
use serde_json::{Value, json};
use service_kit::clock::Clock;
use test_kit::{Api, Setup};

use crate::bare;
use crate::bed::Bed;
use crate::documents::minute_after;
use crate::pipeline;
use crate::report::Report;
use crate::sample::Summary;
use crate::sink::{SECRET, Sink};

const ORGANISATION: &str = "bench";
const USER: &str = "admin";
/// Requests to make agents, at once.
const CREATES_AT_ONCE: usize = 16;
/// Agents that show how fast they are made, and when they would be due.
const PROBE: usize = 100;
const NEW_YEAR: &str = "0 0 1 1 *";
/// The ticks of a minute are spread over it.
const SPREAD: Duration = Duration::from_secs(59);
const PATIENCE: Duration = Duration::from_secs(180);
const PIPELINE: &str = "bare pipeline";

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Agents that are due at one instant.
    #[arg(long)]
    due: Option<usize>,
    /// How often that is measured: each takes a minute.
    #[arg(long)]
    runs: Option<usize>,
    /// Agents that are due a second while it is measured how soon.
    #[arg(long, default_value_t = 50)]
    steady: usize,
}

/// Measures and reports.
pub(crate) async fn run(binary: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("end-to-end", quick);
    let due = options.due.unwrap_or(if quick { 1_000 } else { 5_000 });
    let runs = options.runs.unwrap_or(if quick { 1 } else { 3 });
    let binaries = binary.parent().context("--binary names no file")?;
    let sink = Sink::start()?;
    let microservices = ["agent-registry", "cron-dispatcher", "agent-runner", "callback-deliverer"];
    let allowed = microservices.map(|name| (name, "CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()));
    let allowed = allowed.into_iter().filter(|(name, ..)| *name != "cron-dispatcher").collect();
    let mut bed = Bed::start(binaries, &microservices, allowed).await?;
    let mut bare = Vec::new();
    for _ in 0..runs {
        let database = bed.stack.database("cron-dispatcher");
        bare.push(pipeline::measure(database, &bed.amqp_url(), &sink, if quick { 2_000 } else { 10_000 }).await?);
    }
    let api = bed.stack.api(ORGANISATION, USER, 1).await?;
    let distributed = measure(&api, &sink, Some(&bed), due, runs, options.steady).await?;
    bed.stop().await?;
    tell(&mut report, "PostgreSQL and RabbitMQ", &distributed, &bare);

    let folder = tempfile::tempdir()?;
    let setup = Setup::new(binary, folder.path().join("data"));
    let began = Instant::now();
    let carillon = setup.start().await?;
    report.add("embedded: from start to up", "ms", [began.elapsed().as_secs_f64() * 1_000.0]);
    let embedded = measure(&carillon.api(ORGANISATION, USER).await?, &sink, None, due, runs, options.steady).await?;
    let code = carillon.stop().await?;
    ensure!(code == Some(0), "carillon ended with {code:?}");
    tell(&mut report, "embedded", &embedded, &bare);
    report.finish(output)
}

fn tell(report: &mut Report, pair: &str, measured: &Measured, bare: &[f64]) {
    let pairs: Vec<_> = measured.per_second.iter().copied().zip(bare.iter().copied()).collect();
    report.compare(format!("{pair}: tick → verified POST"), "/s", PIPELINE, &pairs);
    report.add_times(&format!("{pair}: due → POST received, {}/s", measured.steady), &[measured.latency]);
    report.add(format!("{pair}: agents made through the API"), "/s", [measured.created]);
}

struct Measured {
    created: f64,
    steady: usize,
    /// From the due time to the last POST.
    per_second: Vec<f64>,
    latency: Summary,
}

async fn measure(
    api: &Api,
    sink: &Sink,
    bed: Option<&Bed>,
    due: usize,
    runs: usize,
    steady: usize,
) -> anyhow::Result<Measured> {
    let (clock, spread) = (Clock::host(), steady * 60);
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await?["unique_id"].clone();
    let began = Instant::now();
    create(api, sink, &mentor, PROBE, NEW_YEAR, 0).await?;
    let pieces = u32::try_from((due + spread).div_ceil(PROBE))?;
    let creating = Duration::from_secs(5) + began.elapsed() * pieces * 3 / 2;
    let first = minute_after(clock.now(), creating);
    let minutes: Vec<_> =
        (0..=runs).map(|round| first + TimeDelta::minutes(i64::try_from(round).unwrap_or(0))).collect();
    let (spread_at, bursts_at) = minutes.split_last().context("no minutes")?;
    let began = Instant::now();
    create(api, sink, &mentor, due, &at(bursts_at), 0).await?;
    create(api, sink, &mentor, spread, &at(&[*spread_at]), SPREAD.as_secs()).await?;
    let created = bare::per_second(due + spread, began.elapsed());
    bed.map_or(Ok(()), Bed::analyse)?;
    ensure!(clock.now() < first, "the agents were not made before they were due: {created:.0}/s");

    let mut per_second = Vec::new();
    for minute in bursts_at {
        let at_due = Instant::now() + (*minute - clock.now()).to_std().context("the minute has passed")?;
        let received = sink.take(due, PATIENCE).await?;
        ensure!(received.repeated == 0, "{} callbacks came again", received.repeated);
        per_second.push(bare::per_second(due, received.last()? - at_due));
    }
    let (now, instant) = (clock.now(), Instant::now());
    let received = sink.take(spread, PATIENCE).await?;
    let latencies = received.first.values().map(|arrival| {
        let (agent, nominal) = arrival.tick.context("a callback without a tick")?;
        let at = now + TimeDelta::from_std(arrival.at.saturating_duration_since(instant))?;
        Ok((at - fire_time(agent, nominal)?).to_std().unwrap_or_default())
    });
    Ok(Measured { created, steady, per_second, latency: Summary::of(latencies.collect::<anyhow::Result<_>>()?) })
}

/// A crontab of these minutes of every hour.
fn at(minutes: &[DateTime<Utc>]) -> String {
    let minutes: Vec<String> = minutes.iter().map(|minute| minute.format("%-M").to_string()).collect();
    format!("{} * * * *", minutes.join(","))
}

/// Makes so many agents that are due by this crontab.
async fn create(
    api: &Api,
    sink: &Sink,
    mentor: &Value,
    count: usize,
    crontab: &str,
    jitter: u64,
) -> anyhow::Result<()> {
    let names = ["minute", "hour", "day_of_month", "month_of_year", "day_of_week"];
    let fields: Value = names.iter().zip(crontab.split(' ')).map(|(name, field)| (*name, field)).collect();
    let creating = stream::iter(0..count).map(|number| {
        let agent = json!({
            "mentor": mentor, "title": format!("Agent {number}"), "prompt": "p".repeat(350),
            "task": {"crontab": fields, "jitter_seconds": jitter},
            "callback_url": sink.url(number, Duration::ZERO), "callback_secret": SECRET,
        });
        async move { api.post("periodic-agents/", &agent).await.map(drop) }
    });
    creating.buffer_unordered(CREATES_AT_ONCE).try_collect::<()>().await
}

/// When a tick of an agent fires whose ticks are spread.
fn fire_time(agent: i64, nominal: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    let schedule = Schedule { jitter: SPREAD, ..Schedule::default() };
    Ok(Timing::new(&schedule, AgentId(agent), chrono_tz::UTC)?.fire_time(nominal))
}
