//! Database and broker away in the middle of five thousand deliveries: nothing is lost, and nobody is blamed.
//!
//! The real process: over servers of its own, which are stopped and started while it delivers (that needs
//! `CARILLON_SERVICES_DIR`: `make test-faults` runs it), and over files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, dead_code, reason = "stage and receiver are those of the other tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bus::Bus;
use callback_deliverer::signature::standard;
use callback_deliverer::verify_signature;
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection};
use model::document::Endpoint;
use model::event::{DocumentChanged, RunsFinished};
use test_kit::{Backends, Server, Services, until};
use tokio::process::{Child, Command};

#[path = "../it/receiver.rs"]
mod receiver;
#[path = "../it/stage.rs"]
mod stage;

use receiver::{Answer, Callback, Receiver};
use stage::{EventExt, SECRET, agent, noon, run};

const BINARY: &str = env!("CARGO_BIN_EXE_callback-deliverer");
const KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const RUNS: usize = 5_000;
const AGENTS: i64 = 50;
const BATCH: usize = 50;
/// How much is on its way at a time: what is left when a server goes away, and more than there are slots.
const ON_ITS_WAY: usize = 1_000;
/// What goes away, once so many have arrived, and for how long.
const OUTAGES: [(usize, &[Server], Duration); 3] = [
    (1_000, &[Server::Postgres], Duration::from_secs(15)),
    (2_000, &[Server::RabbitMq], Duration::from_secs(10)),
    (3_000, &[Server::Postgres, Server::RabbitMq], Duration::from_secs(10)),
];
/// More than twice as long as anybody waits for a locked file.
const LOCKED: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(240);

fn start(database: &str, bus: &str) -> Child {
    Command::new(BINARY)
        .env("CARILLON__DATABASE__URL", database)
        .env("CARILLON__BUS__URL", bus)
        .env("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:0")
        .env("CARILLON__INTERNAL__KEY", "a-key-that-only-microservices-hold")
        .env("CARILLON__SECRETS__KEYS", KEY)
        .env("CARILLON__CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("CARILLON__TELEMETRY__LOG", "error")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Publishes until the broker has it, as the dispatcher would.
async fn publish(bus: &dyn Bus, event: &impl EventExt) {
    until("the broker has it", PATIENCE, async || bus.publish(vec![event.message(noon())]).await.ok()).await;
}

/// Agents with signed callbacks, and then results of them, each batch when there is room for it.
async fn feed(bus: &dyn Bus, url: &str, room: impl AsyncFn(usize)) {
    let keys = stage::key_ring(KEY);
    let document = |agent_id: i64| {
        let sealed = keys.seal(SECRET.as_bytes(), &format!("agent:{agent_id}"), "callback_secret").unwrap();
        agent(agent_id, 1, Some(Endpoint::new(url.to_owned(), sealed)))
    };
    publish(bus, &DocumentChanged { documents: (0..AGENTS).map(document).collect() }).await;
    for first in (0..RUNS).step_by(BATCH) {
        room(first).await;
        let logs = (first..first + BATCH).map(|log| i64::try_from(log).unwrap());
        publish(bus, &RunsFinished { runs: logs.map(|log| run(log % AGENTS, log)).collect() }).await;
    }
}

async fn arrive(receiver: &Receiver, count: usize) {
    until(&format!("{count} arrive"), PATIENCE, async || (receiver.count() >= count).then_some(())).await;
}

/// Stops servers while callbacks arrive, and starts them again.
async fn break_servers(services: &Services, receiver: &Receiver) {
    let began = Instant::now();
    for (after, servers, duration) in OUTAGES {
        arrive(receiver, after).await;
        println!("{servers:?} away for {duration:?}, {:.1?} after the beginning", began.elapsed());
        for server in servers {
            services.break_down(*server).await.unwrap();
        }
        tokio::time::sleep(duration).await;
        services.mend().await.unwrap();
        println!("back {:.1?} after the beginning", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_deliveries_outlast_the_database_and_the_broker() {
    let (services, backends) = (Services::of_environment().unwrap(), Backends::of_environment());
    assert!(backends.is_postgres(), "CARILLON_TEST_POSTGRES_URL is not set: run `make test-faults`");
    let virtual_host = format!("deliveries-{}", std::process::id());
    services.add_virtual_host(&virtual_host).await.unwrap();
    let (database, broker) = (backends.database("deliveries"), services.amqp_url(&virtual_host));
    let receiver = Receiver::answering(Answer::Status(200)).await;
    let _process = start(&database, &broker);
    let bus = bus::open(&broker).await.unwrap();
    let room = async |first: usize| {
        until("there is room for more", PATIENCE, async || (first < receiver.count() + ON_ITS_WAY).then_some(())).await;
    };
    tokio::join!(feed(&*bus, &receiver.url, room), break_servers(&services, &receiver));
    let mended = Instant::now();
    let repeated = compare(&database, &receiver).await;
    let took = mended.elapsed();
    until("all queues are empty", PATIENCE, async || is_empty(&services, &virtual_host).await.then_some(())).await;
    println!("{RUNS} deliveries, 3 outages: 0 lost, {repeated} repeated, all delivered {took:.1?} after the last");
}

/// SQLite's database is away while somebody else writes for longer than anybody waits: a copy, a repair. Its bus is a
/// file of the process's own, which goes away with the process alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_deliveries_outlast_a_locked_file() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::answering(Answer::Status(200)).await);
    let file = folder.path().join("deliverer.db").display().to_string();
    let (database, bus_file) = (format!("sqlite:{file}"), format!("sqlite:{}", folder.path().join("bus.db").display()));
    // Only a process that is not there leaves its bus to others.
    let bus = bus::open(&bus_file).await.unwrap();
    feed(&*bus, &receiver.url, async |_| ()).await;
    bus.close().await;
    let _process = start(&database, &bus_file);
    for after in [1_000, 2_000, 3_000] {
        arrive(&receiver, after).await;
        let locked = file.clone();
        let lock = tokio::task::spawn_blocking(move || {
            let mut writer = SqliteConnection::establish(&locked).unwrap();
            writer.batch_execute("PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE").unwrap();
            std::thread::sleep(LOCKED);
            writer.batch_execute("ROLLBACK").unwrap();
        });
        lock.await.unwrap();
    }
    let repeated = compare(&database, &receiver).await;
    println!("{RUNS} deliveries, the file locked three times for {LOCKED:?}: 0 lost, {repeated} repeated");
}

/// Once all are delivered: each came, verified, under one id and with one body, and no receiver is blamed for an outage
/// of ours. How many came again.
async fn compare(database: &str, receiver: &Receiver) -> usize {
    let delivered = "SELECT count(*) AS value FROM deliveries WHERE status = 'delivered'";
    let all = async || (count(database, delivered).await? >= RUNS).then_some(());
    until("all are delivered", PATIENCE, all).await;
    assert_eq!(count(database, "SELECT count(*) AS value FROM deliveries").await, Some(RUNS));
    // One may fail because its receiver has just closed the connection; each outage had hundreds in flight.
    let failed = "SELECT count(*) AS value FROM delivery_attempts WHERE outcome <> 'delivered'";
    let failed = count(database, failed).await.unwrap();
    assert!(failed <= RUNS / 100, "{failed} delivery attempts failed");
    assert_eq!(count(database, "SELECT count(*) AS value FROM endpoint_states").await, Some(0));

    let callbacks = receiver.received(RUNS).await;
    callbacks.iter().for_each(verify);
    let logs = by_log(&callbacks);
    assert_eq!(logs.len(), RUNS, "callbacks are lost");
    let doubled: Vec<_> = logs.iter().filter(|(_, seen)| seen.len() > 1).map(|(log, _)| log).collect();
    assert!(doubled.is_empty(), "under several ids, or with several bodies: {doubled:?}");
    callbacks.len() - RUNS
}

/// The webhook ids and bodies under which each log came.
fn by_log(callbacks: &[Callback]) -> BTreeMap<i64, BTreeSet<(String, Vec<u8>)>> {
    let mut seen: BTreeMap<i64, BTreeSet<_>> = BTreeMap::new();
    for callback in callbacks {
        let id = callback.header("webhook-id").unwrap().to_owned();
        seen.entry(callback.json()["log_id"].as_i64().unwrap()).or_default().insert((id, callback.body.clone()));
    }
    seen
}

/// Both dialects.
fn verify(callback: &Callback) {
    let header = |name: &str| callback.header(name).unwrap();
    assert!(verify_signature(SECRET.as_bytes(), &callback.body, header("x-hub-signature-256")));
    let (id, timestamp) = (header(standard::ID_HEADER), header(standard::TIMESTAMP_HEADER));
    let signature = header(standard::SIGNATURE_HEADER);
    assert!(standard::verify(SECRET.as_bytes(), id, timestamp, &callback.body, signature));
}

/// None while the database is away.
async fn count(database: &str, statement: &'static str) -> Option<usize> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        value: i64,
    }
    let url = database.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let query = diesel::sql_query(statement);
        let row: QueryResult<Row> = match url.strip_prefix("sqlite:") {
            Some(file) => query.get_result(&mut SqliteConnection::establish(file).ok()?),
            None => query.get_result(&mut PgConnection::establish(&url).ok()?),
        };
        row.ok()
    });
    usize::try_from(asked.await.unwrap()?.value).ok()
}

async fn is_empty(services: &Services, virtual_host: &str) -> bool {
    let list = ["list_queues", "-p", virtual_host, "--no-table-headers", "name", "messages"];
    let Ok(queues) = services.broker(&list).await else { return false };
    // What it says itself nobody hears: there is no dispatcher, and no registry.
    let own = queues.lines().filter(|line| line.contains("callback-deliverer."));
    let counts: Vec<u64> = own.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
    counts.len() > 2 && counts.iter().sum::<u64>() == 0
}
