//! Faults that must do no harm: real servers and real processes are stopped, killed, wiped and restored.
//!
//! Each test prints one row of the table of `docs/reliability.md`.

use std::io::Write;
use std::time::Duration;

use test_kit::{Forgotten, Proxy, Server};

use crate::scenario::{CLOCK_RATE, Scenario};

const TICKS: usize = 2_000;
const AGENTS: usize = 200;
const ONE_OF_EACH: [(&str, usize); 5] = [
    ("cron-dispatcher", 1),
    ("agent-runner", 1),
    ("callback-deliverer", 1),
    ("agent-registry", 1),
    ("service-registry", 1),
];
/// Three minutes of the stack's clock.
const THREE_MINUTES: Duration = Duration::from_secs(180 / CLOCK_RATE as u64);
/// Longer than it takes to find out that a connection leads nowhere.
const SILENCE: Duration = Duration::from_secs(25);

/// Agents that fire and are called back, at this very moment.
async fn begin() -> Scenario {
    let scenario = Scenario::begin(&ONE_OF_EACH, AGENTS).await;
    scenario.called_back(TICKS / 4).await;
    scenario.busy().await;
    scenario
}

/// Lets the rest of the ticks come, compares, and prints the row.
async fn end(mut scenario: Scenario, fault: &str, recovery: Duration, forgotten: Forgotten) {
    scenario.called_back(TICKS).await;
    let report = scenario.verify(&forgotten).await;
    let runs = report.runs + forgotten.runs.len();
    assert!(runs >= TICKS, "only {runs} runs: too few to mean much");
    // What is lost has failed the comparison.
    let row = format!(
        "| {fault} | {runs} | 0 | {} | {} | {} | {} | {:.1} |",
        report.failed,
        report.skipped_spans,
        report.run_again,
        report.repeated,
        recovery.as_secs_f64()
    );
    println!("{row}");
    let table = scenario.stack.services().directory().join("faults.md");
    let mut table = std::fs::OpenOptions::new().create(true).append(true).open(table).expect("a table");
    writeln!(table, "{row}").expect("a row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_microservice_is_killed_in_turn() {
    let mut scenario = begin().await;
    let mut longest = Duration::ZERO;
    for (name, _) in ONE_OF_EACH {
        scenario.busy().await;
        let replica = scenario.stack.replica(name, 1);
        replica.kill().await.unwrap();
        // Nobody does its work meanwhile.
        tokio::time::sleep(Duration::from_secs(3)).await;
        replica.start().unwrap();
        longest = longest.max(scenario.recovered().await);
    }
    end(scenario, "kill -9 of each microservice in turn", longest, Forgotten::default()).await;
}

/// Breaks servers for a while.
async fn broken(servers: &[Server], duration: Duration, fault: &str) {
    let scenario = begin().await;
    for server in servers {
        scenario.stack.services().break_down(*server).await.expect("it stops");
    }
    tokio::time::sleep(duration).await;
    scenario.stack.services().mend().await.expect("it starts");
    if servers.contains(&Server::BrokerData) {
        // The user comes back with the configuration, the virtual host does not.
        scenario.stack.services().add_virtual_host(scenario.stack.virtual_host()).await.expect("a virtual host");
    }
    let recovery = scenario.recovered().await;
    end(scenario, fault, recovery, Forgotten::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_stopped_and_started() {
    broken(&[Server::RabbitMq], Duration::from_secs(10), "broker stopped and started").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_the_broker_is_wiped() {
    broken(&[Server::BrokerData], Duration::ZERO, "broker's data wiped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_server_crashes_and_stays_away() {
    broken(&[Server::Postgres], THREE_MINUTES, "PostgreSQL stopped (immediate)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_and_the_database_server_are_away() {
    broken(&[Server::Postgres, Server::RabbitMq], THREE_MINUTES, "both stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_the_broker_is_full() {
    let scenario = begin().await;
    let services = scenario.stack.services();
    services.broker(&["set_disk_free_limit", "100000GB"]).await.unwrap();
    tokio::time::sleep(SILENCE).await;
    services.broker(&["set_disk_free_limit", "100MB"]).await.unwrap();
    let recovery = scenario.recovered().await;
    let log = scenario.stack.replicas("cron-dispatcher")[0].log();
    assert!(log.contains("takes no messages at present"), "the dispatcher was not blocked");
    end(scenario, "disk alarm at the broker", recovery, Forgotten::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_between_one_microservice_and_the_broker_swallows_everything() {
    let mut scenario = begin().await;
    let direct = scenario.stack.services().amqp_url(scenario.stack.virtual_host());
    let (credentials, place) = direct.split_once('@').unwrap();
    let (broker, virtual_host) = place.split_once('/').unwrap();
    let proxy = Proxy::start(broker).await.unwrap();
    let replica = scenario.stack.replica("cron-dispatcher", 1);
    assert_eq!(replica.stop().await.unwrap(), Some(0));
    replica.set("CARILLON__BUS__URL", &format!("{credentials}@{}/{virtual_host}", proxy.address()));
    replica.start().unwrap();
    replica.ready().await.unwrap();
    scenario.called_back(TICKS / 2).await;
    scenario.busy().await;

    proxy.swallow();
    tokio::time::sleep(SILENCE).await;
    proxy.forward();
    let recovery = scenario.recovered().await;
    end(scenario, "network to the broker swallows (dispatcher)", recovery, Forgotten::default()).await;
}

/// Restores one microservice's database as it was a thousand ticks ago; returns the ids that it knows no more.
async fn restored(microservice: &str, table: &str) -> (Scenario, Duration, std::collections::BTreeSet<i64>) {
    let mut scenario = begin().await;
    let dump = scenario.stack.dump(microservice).await.expect("a dump");
    scenario.called_back(scenario.receiver.count() + TICKS / 2).await;
    scenario.busy().await;
    scenario.stack.replica(microservice, 1).kill().await.expect("it dies");
    let before = scenario.ids(microservice, table).await;
    scenario.stack.restore(microservice, &dump).await.expect("restored");
    let after = scenario.ids(microservice, table).await;
    scenario.stack.replica(microservice, 1).start().expect("it starts");
    let recovery = scenario.recovered().await;
    (scenario, recovery, before.difference(&after).copied().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_the_dispatcher_is_restored_from_a_backup() {
    let (scenario, recovery, runs) = restored("cron-dispatcher", "runs").await;
    assert!(runs.len() >= TICKS / 2, "only {} runs were forgotten", runs.len());
    let forgotten = Forgotten { runs, ..Forgotten::default() };
    end(scenario, "dispatcher's database restored", recovery, forgotten).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_the_registry_is_restored_from_a_backup() {
    let (scenario, recovery, logs) = restored("agent-registry", "logs").await;
    assert!(logs.len() >= TICKS / 2, "only {} logs were forgotten", logs.len());
    let forgotten = Forgotten { logs, ..Forgotten::default() };
    end(scenario, "registry's database restored", recovery, forgotten).await;
}
