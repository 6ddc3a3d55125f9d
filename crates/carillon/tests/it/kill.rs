//! A crash at any line loses nothing.
//!
//! The real binary is killed with SIGKILL at random points while 500 agents fire every few seconds, and started again
//! over what it left. In the end every tick is one run or has one recorded reason, every run has ended, every callback
//! has arrived under one webhook id, and log and callback are equal.

use std::time::Duration;

use rand::Rng;
use serde_json::json;
use test_kit::{Api, Carillon, Ledger, Receiver, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const AGENTS: usize = 500;
const KILLS: usize = 20;
const SECRET: &str = "a secret";
/// A tick of every agent each four seconds.
const CLOCK_RATE: u32 = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_while_five_hundred_agents_fire_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(CLOCK_RATE);
    let mut carillon = setup.start().await.unwrap();
    let agent_ids = make_agents(&carillon.api("acme", "admin").await.unwrap(), receiver.url()).await;
    // The clock of the scenario may be fast, the test's patience is not.
    until("the agents fire", Duration::from_secs(180), async || (receiver.count() >= AGENTS).then_some(())).await;

    for kill in 0..KILLS {
        // The point of this wait is that nothing is awaited: death comes at any line.
        let mercy = rand::rng().random_range(200..2_500);
        tokio::time::sleep(Duration::from_millis(mercy)).await;
        carillon.kill().await.unwrap();
        if kill == KILLS / 2 {
            // Once it stays down for longer than two ticks, so that some are coalesced.
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        carillon = setup.start().await.unwrap();
    }
    verify(&carillon, &setup, &agent_ids, &receiver).await;
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
    println!("{}", setup.verify_ledger().await.unwrap().trim_end());
}

async fn make_agents(api: &Api, receiver_url: &str) -> Vec<i64> {
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let mut ids = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        let agent = json!({
            "mentor": mentor["unique_id"], "title": format!("Agent {number}"), "prompt": format!("question {number}"),
            "task": {"crontab": {}}, "callback_url": receiver_url, "callback_secret": SECRET,
        });
        ids.push(api.post("periodic-agents/", &agent).await.unwrap()["id"].as_i64().unwrap());
    }
    ids
}

/// Stops the ticks, lets everything come to rest, and compares.
async fn verify(carillon: &Carillon, setup: &Setup, agent_ids: &[i64], receiver: &Receiver) {
    let api = carillon.api("acme", "admin").await.unwrap();
    for id in agent_ids {
        api.patch(&format!("periodic-agents/{id}/"), &json!({"task": {"enabled": false}})).await.unwrap();
    }
    let ledger = Ledger { api: &api, agent_ids, secret: SECRET };
    let mut faults = Vec::new();
    let at_rest = async {
        loop {
            let report = ledger.verify(&receiver.callbacks()).await.unwrap();
            faults.clone_from(&report.faults);
            if report.faults.is_empty() {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let Ok(report) = tokio::time::timeout(Duration::from_secs(300), at_rest).await else {
        panic!("{} faults, among them {:#?}\n{}", faults.len(), &faults[..faults.len().min(10)], setup.log());
    };
    println!(
        "{KILLS} kills: {} runs, {} spans of skipped ticks, {} repeated callbacks, nothing lost",
        report.runs, report.skipped_spans, report.repeated
    );
    assert!(report.skipped_spans > 0, "no tick was coalesced although it was down for two of them");
    assert!(report.runs > AGENTS * 5, "only {} runs: the scenario was too slow to mean much", report.runs);
}
