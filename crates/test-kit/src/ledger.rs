//! The ledger: what Carillon says of every tick, run and callback, compared with what arrived.
//!
//! Every fault test ends here. It looks only through public doors: the ticks, the logs, and the receiver.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::api::Api;
use crate::receiver::Callback;

/// What to compare: agents that fire every minute.
#[derive(Debug)]
pub struct Ledger<'a> {
    /// The organisation's API.
    pub api: &'a Api,
    /// The agents.
    pub agent_ids: &'a [i64],
    /// Their callback secret.
    pub secret: &'a str,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Ticks that became runs.
    pub runs: usize,
    /// Spans of ticks that did not, each with its reason.
    pub skipped_spans: usize,
    /// Callbacks that arrived more than once.
    pub repeated: usize,
    /// Everything that is not as promised; empty if Carillon keeps its word.
    pub faults: Vec<String>,
}

impl Ledger<'_> {
    /// Compares.
    ///
    /// # Errors
    ///
    /// The API does not answer.
    pub async fn verify(&self, callbacks: &[Callback]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let received = self.received(callbacks, &mut report);
        let mut logs_by_agent: HashMap<i64, Vec<Value>> = HashMap::new();
        for log in self.api.list("periodic-agent-logs/").await? {
            let agent_id = log["periodic_agent"].as_i64().context("a log without agent")?;
            logs_by_agent.entry(agent_id).or_default().push(log);
        }
        for agent_id in self.agent_ids {
            let ticks = self.api.list(&format!("periodic-agents/{agent_id}/ticks/")).await?;
            let logs = logs_by_agent.remove(agent_id).unwrap_or_default();
            check_ticks(*agent_id, &ticks, &mut report);
            check_logs(*agent_id, &ticks, &logs, &received, &mut report);
        }
        Ok(report)
    }

    /// What arrived, by log id; each signed, and each log id under one webhook id with one body.
    fn received(&self, callbacks: &[Callback], report: &mut Report) -> BTreeMap<i64, Value> {
        let mut received: BTreeMap<i64, (Value, Option<String>)> = BTreeMap::new();
        for callback in callbacks {
            let body = callback.json();
            let log_id = body["log_id"].as_i64().unwrap_or_default();
            if !callback.is_signed_with(self.secret) {
                report.faults.push(format!("the callback of log {log_id} is not signed as it should be"));
            }
            match received.get(&log_id) {
                None => {
                    received.insert(log_id, (body, callback.webhook_id.clone()));
                }
                Some((first, webhook_id)) => {
                    report.repeated += 1;
                    if *first != body || *webhook_id != callback.webhook_id {
                        report.faults.push(format!("the callbacks of log {log_id} differ"));
                    }
                }
            }
        }
        let webhook_ids: BTreeSet<_> = received.values().map(|(_, webhook_id)| webhook_id).collect();
        if webhook_ids.len() != received.len() {
            report.faults.push("two logs share a webhook id".to_owned());
        }
        received.into_iter().map(|(log_id, (body, _))| (log_id, body)).collect()
    }
}

fn moment(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

/// Every minute from the first tick to the last is one run, or in one skipped span.
fn check_ticks(agent_id: i64, ticks: &[Value], report: &mut Report) {
    let mut expected = None;
    for tick in ticks.iter().rev() {
        let Some(from) = moment(&tick["fire_time"]) else {
            report.faults.push(format!("agent {agent_id}: a tick without time: {tick}"));
            continue;
        };
        if expected.is_some_and(|expected| expected != from) {
            report.faults.push(format!("agent {agent_id}: after {expected:?} comes {from}"));
        }
        match tick["outcome"].as_str() {
            Some("run") if tick["log_id"].is_i64() => {
                report.runs += 1;
                expected = Some(from + TimeDelta::minutes(1));
            }
            Some("skipped") if tick["reason"].is_string() => {
                report.skipped_spans += 1;
                expected = moment(&tick["until"]);
            }
            _ => report.faults.push(format!("agent {agent_id}: a tick neither run nor skipped: {tick}")),
        }
    }
}

/// Every tick's run has one log, every log has ended, its sequence has no gap, and its callback says the same.
fn check_logs(agent_id: i64, ticks: &[Value], logs: &[Value], received: &BTreeMap<i64, Value>, report: &mut Report) {
    let mut fault = |text: String| report.faults.push(format!("agent {agent_id}: {text}"));
    let log_ids: BTreeSet<i64> = logs.iter().filter_map(|log| log["id"].as_i64()).collect();
    let run_ids: BTreeSet<i64> = ticks.iter().filter_map(|tick| tick["log_id"].as_i64()).collect();
    for missing in run_ids.difference(&log_ids) {
        fault(format!("run {missing} has no log"));
    }
    let mut sequences: Vec<i64> = logs.iter().filter_map(|log| log["sequence"].as_i64()).collect();
    sequences.sort_unstable();
    if sequences.iter().zip(1..).any(|(sequence, expected)| *sequence != expected) {
        fault(format!("sequences have a gap or a repeat: {sequences:?}"));
    }
    for log in logs {
        let id = log["id"].as_i64().unwrap_or_default();
        if !matches!(log["status"].as_str(), Some("success" | "error")) {
            fault(format!("log {id} has not ended: {}", log["state"]));
        }
        let Some(callback) = received.get(&id) else {
            fault(format!("log {id} was not called back"));
            continue;
        };
        for (of_log, of_callback) in [("status", "status"), ("content", "log"), ("agent_output", "agent_output")] {
            if log[of_log] != callback[of_callback] {
                fault(format!("log {id} and its callback differ in `{of_log}`"));
            }
        }
    }
}
