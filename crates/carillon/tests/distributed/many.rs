//! Many of each: they share the work, and one that stands still harms nobody.

use std::time::Duration;

use test_kit::Forgotten;

use crate::scenario::Scenario;

const TICKS: usize = 10_000;
const AGENTS: usize = 400;
/// Twice the time after which the broker gives a silent connection up, and more than twice that for which the database
/// lets a transaction idle.
const TWICE_A_CONNECTION: Duration = Duration::from_secs(20);
/// Twice the lease of a delivery, in real time, whatever the clock of the stack says.
const TWICE_A_LEASE: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_ticks_are_shared_by_many_of_each_while_one_of_each_freezes() {
    let replicas = [
        ("cron-dispatcher", 3),
        ("agent-runner", 4),
        ("callback-deliverer", 3),
        ("agent-registry", 2),
        ("service-registry", 1),
    ];
    let mut scenario = Scenario::begin(&replicas, AGENTS).await;
    scenario.called_back(TICKS / 10).await;

    let frozen = ["cron-dispatcher", "agent-runner", "agent-registry", "callback-deliverer"];
    for name in frozen {
        scenario.stack.replica(name, 2).freeze().await.unwrap();
    }
    tokio::time::sleep(TWICE_A_CONNECTION).await;
    for name in &frozen[..3] {
        scenario.stack.replica(name, 2).wake().await.unwrap();
    }
    tokio::time::sleep(TWICE_A_LEASE - TWICE_A_CONNECTION).await;
    scenario.stack.replica(frozen[3], 2).wake().await.unwrap();
    scenario.called_back(TICKS).await;

    let report = scenario.verify(&Forgotten::default()).await;
    assert!(report.runs >= TICKS, "only {} runs", report.runs);
    assert_eq!(report.failed, 0, "runs ended with an error");
    let mut asked = Vec::new();
    for runner in scenario.stack.replicas("agent-runner") {
        asked.push(runner.counted("carillon_runs_asked_total").await.unwrap());
    }
    let all: f64 = asked.iter().sum();
    let shares: Vec<String> = asked.iter().map(|one| format!("{:.1} %", one / all * 100.0)).collect();
    println!(
        "{} runs, {} spans of skipped ticks, {} repeated callbacks, runs asked {all}, by runner {shares:?}",
        report.runs, report.skipped_spans, report.repeated
    );
    assert!(asked.iter().all(|one| one / all >= 0.15), "the runners do not share: {shares:?}");
}
