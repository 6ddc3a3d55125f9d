//! Delivery: from results that the dispatcher has committed and announces, to POSTs that a receiver has verified. Only
//! the deliverer runs; the bench is dispatcher, registry and receiver.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::{Message, Queue};
use clap::Args;
use model::document::{Document, Endpoint, Schedule, Subject, next_version};
use model::event::{Event, RunsFinished};
use model::id::AgentId;
use model::wire::Wire;

use crate::bare;
use crate::bed::Bed;
use crate::documents;
use crate::pace;
use crate::peers;
use crate::report::Report;
use crate::sample::Summary;
use crate::sink::{Received, SECRET, Sink};

/// Endpoints, and the organisations that they are of.
const AGENTS: usize = 100;
const ORGANISATIONS: i64 = 10;
/// Results in one message, as the dispatcher announces them.
const ANNOUNCED: usize = 100;
const PATIENCE: Duration = Duration::from_secs(180);
/// At once: what a bare client does best with, and with a receiver that takes its time as many as the deliverer may.
const AT_ONCE: usize = 64;
const AT_ONCE_SLOW: usize = 512;
const SLOW: Duration = Duration::from_millis(50);
/// Results a second while latency is measured.
const STEADY: u32 = 200;

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Results in a flood; with a slow receiver, a quarter.
    #[arg(long)]
    results: Option<usize>,
    /// How often each is measured.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("delivery", quick);
    let results = options.results.unwrap_or(if quick { 4_000 } else { 20_000 });
    let runs = options.runs.unwrap_or(if quick { 2 } else { 5 });
    let seconds = Duration::from_secs(if quick { 4 } else { 20 });
    let deliverer = Deliverer::start(binaries).await?;
    let (fast, slow) = (deliverer.endpoints(AGENTS, Duration::ZERO).await?, deliverer.endpoints(AGENTS, SLOW).await?);
    // Connections are made, lanes are wide.
    deliverer.flood(&fast, results / 2).await?;
    deliverer.flood(&slow, results / 8).await?;
    floods(&deliverer, &mut report, &fast, &slow, results, runs).await?;
    let (mut hops, mut times) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        hops.push(bare::hop(&deliverer.bed.amqp_url(), STEADY, seconds).await?);
        times.push(deliverer.steady(&fast, STEADY, seconds).await?);
    }
    let pairs = |of: fn(&Summary) -> f64| times.iter().map(of).zip(hops.iter().map(of)).collect::<Vec<_>>();
    report.compare("committed → received at 200/s, p50", "ms", "one quorum hop", &pairs(|one| one.p50_ms));
    report.compare("committed → received at 200/s, p99", "ms", "one quorum hop", &pairs(|one| one.p99_ms));
    deliverer.stop().await?;
    report.finish(output)
}

async fn floods(
    deliverer: &Deliverer,
    report: &mut Report,
    fast: &[i64],
    slow: &[i64],
    results: usize,
    runs: usize,
) -> anyhow::Result<()> {
    let (mut at_once, mut taking_time) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let bare = bare::posts(&deliverer.sink, results, AT_ONCE, Duration::ZERO).await?;
        at_once.push((deliverer.flood(fast, results).await?, bare));
        let bare = bare::posts(&deliverer.sink, results / 4, AT_ONCE_SLOW, SLOW).await?;
        taking_time.push((deliverer.flood(slow, results / 4).await?, bare));
    }
    report.compare("delivered, receivers answer at once", "/s", "bare POSTs", &at_once);
    report.compare("delivered, receivers take 50 ms", "/s", "bare POSTs", &taking_time);
    Ok(())
}

/// A deliverer whose results the bench announces.
pub(crate) struct Deliverer {
    pub(crate) bed: Bed,
    pub(crate) sink: Sink,
    next_run: AtomicI64,
    next_agent: AtomicI64,
}

impl Deliverer {
    pub(crate) async fn start(binaries: &Path) -> anyhow::Result<Self> {
        let allowed = ("callback-deliverer", "CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned());
        let bed = Bed::start(binaries, &["callback-deliverer"], vec![allowed]).await?;
        for queue in [Queue::CronDispatcherRunsHeld, Queue::AgentRegistryDocumentsHeld] {
            peers::drain(&bed.bus, queue).await?;
        }
        let next_run = AtomicI64::new(bed.now().timestamp() * 10_000);
        Ok(Self { bed, sink: Sink::start()?, next_run, next_agent: AtomicI64::new(1) })
    }

    /// Announces so many more agents whose receivers answer after `delay`, and waits until they are held.
    pub(crate) async fn endpoints(&self, count: usize, delay: Duration) -> anyhow::Result<Vec<i64>> {
        let (keys, now) = (self.bed.key_ring()?, self.bed.now());
        let (mut ids, mut documents) = (Vec::new(), Vec::new());
        for number in 0..count {
            let id = self.next_agent.fetch_add(1, Ordering::Relaxed);
            let secret = keys.seal(SECRET.as_bytes(), &format!("agent:{id}"), "callback_secret")?;
            let endpoint = Endpoint::new(self.sink.url(number, delay), secret);
            documents.push(documents::agent(id, organisation_of(id), Schedule::default(), Some(endpoint), now));
            ids.push(id);
        }
        self.bed.publish(documents::announcements(documents)).await?;
        let held = format!("SELECT count(*) AS value FROM endpoints WHERE agent_id >= {}", ids[0]);
        self.bed.counted("callback-deliverer", &held, i64::try_from(count)?, PATIENCE).await?;
        Ok(ids)
    }

    /// Takes endpoints away, with all that is due for them.
    pub(crate) async fn remove(&self, agents: &[i64]) -> anyhow::Result<()> {
        let version = next_version(0, self.bed.now());
        let gone = agents.iter().map(|id| Document {
            organisation: documents::organisation_key(organisation_of(*id)),
            version,
            subject: Subject::AgentDeleted(AgentId(*id)),
        });
        self.bed.publish(documents::announcements(gone.collect())).await
    }

    fn next_results(&self, agents: &[i64], count: usize) -> RunsFinished {
        let now = self.bed.now();
        let runs = (0..count).map(|_| {
            let id = self.next_run.fetch_add(1, Ordering::Relaxed);
            let agent = agents[usize::try_from(id).unwrap_or_default() % agents.len()];
            documents::finished_run(id, agent, organisation_of(agent), now)
        });
        RunsFinished { runs: runs.collect() }
    }

    /// Announces so many results in batches.
    pub(crate) async fn announce(&self, agents: &[i64], count: usize) -> anyhow::Result<()> {
        let pieces = (0..count).step_by(ANNOUNCED).map(|begin| ANNOUNCED.min(count - begin));
        self.bed.publish(pieces.map(|size| self.next_results(agents, size)).collect::<Vec<_>>()).await
    }

    /// Results delivered per second, announced all at once.
    pub(crate) async fn flood(&self, agents: &[i64], count: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.announce(agents, count).await?;
        let received = self.sink.take(count, PATIENCE).await?;
        Ok(bare::per_second(count, received.last()? - began))
    }

    /// From the moment that a result is announced to its POST, at so many a second, each alone.
    async fn steady(&self, agents: &[i64], rate: u32, duration: Duration) -> anyhow::Result<Summary> {
        let sent = self.announce_at_rate(agents, rate, duration).await?;
        let received = self.sink.take(sent.len(), PATIENCE).await?;
        Ok(Summary::of(latencies(&sent, &received)))
    }

    /// Announces results one by one; the id, the agent and the moment of each.
    pub(crate) async fn announce_at_rate(
        &self,
        agents: &[i64],
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Vec<Sent>> {
        let sent = Arc::new(Mutex::new(Vec::with_capacity(pace::count(rate, duration))));
        pace::at_rate(rate, duration, |_| {
            let event = self.next_results(agents, 1);
            let (bus, sent, now) = (Arc::clone(&self.bed.bus), Arc::clone(&sent), self.bed.now());
            async move {
                let (id, agent) = (event.runs[0].run.id.0, event.runs[0].run.agent_id.0);
                let message = Message::new(RunsFinished::KIND, "bench", now, event.encode());
                let at = Instant::now();
                sent.lock().unwrap_or_else(PoisonError::into_inner).push(Sent { id, agent, at });
                Ok(bus.publish(vec![message]).await?)
            }
        })
        .await?;
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *sent))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.bed.stop().await
    }
}

/// A result that was announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) id: i64,
    pub(crate) agent: i64,
    pub(crate) at: Instant,
}

/// How long each of these took that came.
pub(crate) fn latencies<'a>(sent: impl IntoIterator<Item = &'a Sent>, received: &Received) -> Vec<Duration> {
    sent.into_iter().filter_map(|one| Some(received.first.get(&one.id)?.at.saturating_duration_since(one.at))).collect()
}

fn organisation_of(agent: i64) -> i64 {
    agent % ORGANISATIONS
}
