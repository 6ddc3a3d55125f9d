//! SIGKILL between POST and commit, a hundred times: the real process is killed each time that its receiver has a
//! callback and has not answered it, and started again over what it left. And SIGSTOP there, for longer than twice a
//! lease ([`freeze`]).
//!
//! On SQLite, and on PostgreSQL where `CARILLON_TEST_POSTGRES_URL` names a server. `make test-kills` runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, dead_code, reason = "stage and receiver are those of the other tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bus::Bus;
use bus::embedded::EmbeddedBus;
use model::document::Endpoint;
use model::event::{DocumentChanged, RunsFinished};
use test_kit::{Backends, until};
use tokio::process::{Child, Command};

mod freeze;
#[path = "../it/receiver.rs"]
mod receiver;
#[path = "../it/stage.rs"]
mod stage;

use receiver::{Answer, Receiver};
use stage::{EventExt, agent, noon, run};

const BINARY: &str = env!("CARGO_BIN_EXE_callback-deliverer");
const KILLS: i64 = 100;
const KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// What every process is started with.
fn command(database: &str, bus: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env("CARILLON__DATABASE__URL", database)
        .env("CARILLON__BUS__URL", format!("sqlite:{}", bus.display()))
        .env("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:0")
        .env("CARILLON__INTERNAL__KEY", "a-key-that-only-microservices-hold")
        .env("CARILLON__SECRETS__KEYS", KEY)
        .env("CARILLON__CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("CARILLON__CALLBACKS__IN_FLIGHT_MAX", "4096")
        .env("CARILLON__TELEMETRY__LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

fn start(database: &str, bus: &Path) -> Child {
    command(database, bus).spawn().unwrap()
}

/// What a process finds in the bus: new agents, each with its endpoint, so with a lane of its own, and one result of
/// each. One: each connection that a killed process leaves stays open at the receiver.
async fn feed(bus: &Path, agents: RangeInclusive<i64>, url: &str) {
    let bus = EmbeddedBus::open(bus).unwrap();
    let document = |agent_id: i64| {
        let sealed = stage::key_ring(KEY).seal(b"s", &format!("agent:{agent_id}"), "callback_secret").unwrap();
        agent(agent_id, 1, Some(Endpoint::new(url.to_owned(), sealed)))
    };
    let documents = agents.clone().map(document).collect();
    let runs = agents.map(|agent_id| run(agent_id, agent_id)).collect();
    let messages = vec![DocumentChanged { documents }.message(noon()), RunsFinished { runs }.message(noon())];
    bus.publish(messages).await.unwrap();
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_between_post_and_commit_lose_nothing() {
    let (backends, receiver) = (Backends::of_environment(), Receiver::answering(Answer::Never).await);
    let (database, bus) = (backends.database("kills"), backends.folder().join("bus.db"));
    let mut slowest = Duration::ZERO;
    for kill in 1..=KILLS {
        feed(&bus, kill..=kill, &receiver.url).await;
        let before = receiver.count();
        let mut process = start(&database, &bus);
        let begun = Instant::now();
        // What its predecessors held comes again, and what is new comes, and none of it is answered.
        let all = usize::try_from(kill).unwrap();
        let again = async || ids(&receiver, before..receiver.count()).await.len() == all;
        until("all that is not delivered comes", Duration::from_secs(20), async || again().await.then_some(())).await;
        slowest = slowest.max(begun.elapsed());
        process.kill().await.unwrap();
    }
    receiver.answer(Answer::Status(200));
    let answered_from = receiver.count();
    let mut process = start(&database, &bus);
    let runs = usize::try_from(KILLS).unwrap();
    let arrived = async || logs(&receiver, answered_from).await.len() == runs;
    until("everything arrives", Duration::from_secs(60), async || arrived().await.then_some(())).await;
    process.kill().await.unwrap();
    for (log, ids) in logs(&receiver, 0).await {
        assert_eq!(ids.len(), 1, "log {log} came under several ids");
    }
    let posts = receiver.count();
    println!("{KILLS} kills, {runs} runs: 0 lost, {} repeats, all held ones again within {slowest:?}", posts - runs);
}

async fn ids(receiver: &Receiver, range: std::ops::Range<usize>) -> BTreeSet<String> {
    let callbacks = receiver.received(range.end).await;
    callbacks[range].iter().map(|callback| callback.header("webhook-id").unwrap().to_owned()).collect()
}

/// The webhook ids of each log, from that callback on.
async fn logs(receiver: &Receiver, from: usize) -> BTreeMap<i64, BTreeSet<String>> {
    let mut logs: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for callback in receiver.received(0).await.iter().skip(from) {
        let id = callback.header("webhook-id").unwrap().to_owned();
        logs.entry(callback.json()["log_id"].as_i64().unwrap()).or_default().insert(id);
    }
    logs
}
