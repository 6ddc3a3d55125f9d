//! SIGKILL between POST and commit, a hundred times: the real process is killed each time that its receiver has a
//! callback and has not answered it, and started again over what it left.
//!
//! On SQLite, and on PostgreSQL where `CARILLON_TEST_POSTGRES_URL` names a server. `make test-kills` runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, dead_code, reason = "stage and receiver are those of the other tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bus::Bus;
use bus::embedded::EmbeddedBus;
use model::document::{DocumentKind, Endpoint};
use model::event::{DocumentChanged, RunsFinished};
use test_kit::{Backends, until};
use tokio::process::{Child, Command};

#[path = "../it/receiver.rs"]
mod receiver;
#[path = "../it/stage.rs"]
mod stage;

use receiver::{Answer, Receiver};
use stage::{EventExt, agent, noon, run};

const BINARY: &str = env!("CARGO_BIN_EXE_callback-deliverer");
const KILLS: usize = 100;
const RUNS: i64 = 500;
const KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn start(database: &str, bus: &Path) -> Child {
    Command::new(BINARY)
        .env("CARILLON__DATABASE__URL", database)
        .env("CARILLON__BUS__URL", format!("sqlite:{}", bus.display()))
        .env("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:0")
        .env("CARILLON__INTERNAL__KEY", "a-key-that-only-microservices-hold")
        .env("CARILLON__SECRETS__KEYS", KEY)
        .env("CARILLON__CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("CARILLON__TELEMETRY__LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Everything is in the bus before the first process starts.
async fn feed(bus: &Path, url: &str) {
    let bus = EmbeddedBus::open(bus).unwrap();
    let endpoint =
        Endpoint::new(url.to_owned(), stage::key_ring(KEY).seal(b"s", "agent:7", "callback_secret").unwrap());
    let documents = vec![agent(7, 1, Some(endpoint))];
    assert_eq!(documents[0].kind(), DocumentKind::Agent);
    let mut messages = vec![DocumentChanged { documents }.message(noon())];
    for batch in 0..RUNS / 50 {
        let runs = (0..50).map(|n| run(7, batch * 50 + n)).collect();
        messages.push(RunsFinished { runs }.message(noon()));
    }
    bus.publish(messages).await.unwrap();
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_between_post_and_commit_lose_nothing() {
    let (backends, receiver) = (Backends::of_environment(), Receiver::answering(Answer::Never).await);
    let (database, bus) = (backends.database("kills"), backends.folder().join("bus.db"));
    feed(&bus, &receiver.url).await;
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        let (before, held_before) = (receiver.count(), kill > 0);
        let mut process = start(&database, &bus);
        let begun = Instant::now();
        receiver.received(before + 1).await;
        // What the last one held comes again; it is the oldest, and so the first.
        if held_before {
            let held = ids(&receiver, 0..before).await;
            let again = async || !ids(&receiver, before..receiver.count()).await.is_disjoint(&held);
            until("what was held comes again", Duration::from_secs(10), async || again().await.then_some(())).await;
            slowest = slowest.max(begun.elapsed());
        }
        process.kill().await.unwrap();
    }
    receiver.answer(Answer::Status(200));
    let answered_from = receiver.count();
    let mut process = start(&database, &bus);
    let runs = usize::try_from(RUNS).unwrap();
    let arrived = async || logs(&receiver, answered_from).await.len() == runs;
    until("everything arrives", Duration::from_secs(60), async || arrived().await.then_some(())).await;
    process.kill().await.unwrap();
    for (log, ids) in logs(&receiver, 0).await {
        assert_eq!(ids.len(), 1, "log {log} came under several ids");
    }
    let posts = receiver.count();
    println!("{KILLS} kills, {RUNS} runs: 0 lost, {} repeats, held ones again within {slowest:?}", posts - runs);
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
