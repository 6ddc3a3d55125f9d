//! The ledger: what Carillon says of every tick, run and callback, compared with what arrived.
//!
//! Every fault test ends here. It looks only through public doors: the ticks, the logs, and the receiver.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::api::Api;
use crate::receiver::Callback;

/// Agents whose ticks are asked for at the same time.
const AGENTS_AT_ONCE: usize = 8;

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

/// What a database that was restored from a backup does not know any more; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Forgotten {
    /// Runs that the dispatcher has forgotten, and the ticks that they were of: they have logs all the same.
    pub runs: BTreeSet<i64>,
    /// Logs that the registry has forgotten: their runs have been called back all the same.
    pub logs: BTreeSet<i64>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Ticks that became runs.
    pub runs: usize,
    /// Spans of ticks that did not, each with its reason, while their agents were enabled.
    pub skipped_spans: usize,
    /// Runs that ended with an error.
    pub failed: usize,
    /// Runs of a tick that had run before: only where the dispatcher has forgotten that.
    pub run_again: usize,
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
        self.verify_restored(callbacks, &Forgotten::default()).await
    }

    /// Compares, after a restore from a backup.
    ///
    /// # Errors
    ///
    /// The API does not answer.
    pub async fn verify_restored(&self, callbacks: &[Callback], forgotten: &Forgotten) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let received = self.received(callbacks, &mut report);
        let mut logs_by_agent: HashMap<i64, Vec<Value>> = HashMap::new();
        for log in self.api.list("periodic-agent-logs/?ordering=id").await? {
            let agent_id = log["periodic_agent"].as_i64().context("a log without agent")?;
            logs_by_agent.entry(agent_id).or_default().push(log);
        }
        let ticks = stream::iter(self.agent_ids).map(|agent_id| async move {
            let ticks = self.api.list(&format!("periodic-agents/{agent_id}/ticks/")).await?;
            anyhow::Ok((*agent_id, ticks))
        });
        let mut run_ids = BTreeSet::new();
        for (agent_id, ticks) in ticks.buffered(AGENTS_AT_ONCE).try_collect::<Vec<_>>().await? {
            let logs = logs_by_agent.remove(&agent_id).unwrap_or_default();
            check_ticks(agent_id, &ticks, &mut report);
            for run_id in ticks.iter().filter_map(|tick| tick["log_id"].as_i64()) {
                if !run_ids.insert(run_id) {
                    report.faults.push(format!("two ticks name run {run_id}"));
                }
            }
            check_logs(&Agent { id: agent_id, ticks: &ticks, logs: &logs, forgotten }, &received, &mut report);
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

/// Every minute from the first tick to the last is one run, or in one skipped span; in nominal times, which no jitter moves.
fn check_ticks(agent_id: i64, ticks: &[Value], report: &mut Report) {
    let mut expected = None;
    for tick in ticks.iter().rev() {
        let Some(from) = moment(&tick["nominal_time"]) else {
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
                // That they are disabled before they are compared is the test's own doing.
                report.skipped_spans += usize::from(tick["reason"] != "disabled");
                expected = moment(&tick["until"]);
            }
            _ => report.faults.push(format!("agent {agent_id}: a tick neither run nor skipped: {tick}")),
        }
    }
}

/// What is known of one agent.
struct Agent<'a> {
    id: i64,
    ticks: &'a [Value],
    logs: &'a [Value],
    forgotten: &'a Forgotten,
}

/// Every tick's run has one log, every log has ended, its sequence has no gap, and its callback says the same.
fn check_logs(agent: &Agent<'_>, received: &BTreeMap<i64, Value>, report: &mut Report) {
    let Agent { id: agent_id, ticks, logs, forgotten } = *agent;
    let mut faults = Vec::new();
    let fire_times = |list: &[Value], id: &str| -> BTreeMap<i64, Option<DateTime<Utc>>> {
        list.iter().filter_map(|one| Some((one[id].as_i64()?, moment(&one["fire_time"])))).collect()
    };
    let (of_logs, of_runs) = (fire_times(logs, "id"), fire_times(ticks, "log_id"));
    for (id, fire_time) in &of_runs {
        match of_logs.get(id) {
            Some(of_log) if of_log == fire_time => {}
            Some(_) => faults.push(format!("run {id} and log {id} are of different ticks")),
            None if forgotten.logs.contains(id) && received.contains_key(id) => {}
            None => faults.push(format!("run {id} has no log")),
        }
    }
    for id in of_logs.keys().filter(|id| !of_runs.contains_key(id) && !forgotten.runs.contains(id)) {
        faults.push(format!("log {id} is of no tick"));
    }
    let ticks_run: BTreeSet<_> = of_logs.values().collect();
    report.run_again += of_logs.len() - ticks_run.len();
    if of_logs.len() != ticks_run.len() && forgotten.runs.is_empty() {
        faults.push("a tick ran twice".to_owned());
    }
    let known = logs.iter().filter(|log| log["id"].as_i64().is_some_and(|id| !forgotten.runs.contains(&id)));
    let mut sequences: Vec<i64> = known.filter_map(|log| log["sequence"].as_i64()).collect();
    sequences.sort_unstable();
    if forgotten.logs.is_empty() && sequences.iter().zip(1..).any(|(sequence, expected)| *sequence != expected) {
        faults.push(format!("sequences have a gap or a repeat: {sequences:?}"));
    }
    for log in logs {
        let id = log["id"].as_i64().unwrap_or_default();
        match log["status"].as_str() {
            Some("success") => {}
            Some("error") => report.failed += 1,
            _ => faults.push(format!("log {id} has not ended: {}", log["state"])),
        }
        let Some(callback) = received.get(&id) else {
            faults.push(format!("log {id} was not called back"));
            continue;
        };
        for (of_log, of_callback) in [("status", "status"), ("content", "log"), ("agent_output", "agent_output")] {
            if log[of_log] != callback[of_callback] {
                faults.push(format!("log {id} and its callback differ in `{of_log}`"));
            }
        }
    }
    report.faults.extend(faults.into_iter().map(|fault| format!("agent {agent_id}: {fault}")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(minute: u32, log_id: i64) -> Value {
        let time = format!("2026-01-01T10:{minute:02}:00Z");
        json!({"fire_time": time, "nominal_time": time, "outcome": "run", "log_id": log_id})
    }

    fn log(minute: u32, id: i64, sequence: i64) -> Value {
        json!({
            "id": id, "status": "success", "content": "said", "agent_output": "out", "sequence": sequence,
            "fire_time": format!("2026-01-01T10:{minute:02}:00Z"),
        })
    }

    fn callback() -> Value {
        json!({"status": "success", "log": "said", "agent_output": "out"})
    }

    fn faults(ticks: &[Value], logs: &[Value], received: &[(i64, Value)]) -> Vec<String> {
        let mut report = Report::default();
        check_ticks(7, ticks, &mut report);
        let forgotten = Forgotten::default();
        let received = received.iter().cloned().collect();
        check_logs(&Agent { id: 7, ticks, logs, forgotten: &forgotten }, &received, &mut report);
        report.faults
    }

    #[test]
    fn a_kept_word_has_no_faults_and_each_broken_one_has_its_own() {
        // Newest first, as the API lists them.
        let skipped = json!({
            "nominal_time": "2026-01-01T10:02:00Z", "until": "2026-01-01T10:04:00Z", "outcome": "skipped",
            "reason": "coalesced",
        });
        let ticks = [run(4, 2), skipped.clone(), run(1, 1)];
        let logs = [log(4, 2, 2), log(1, 1, 1)];
        let received = [(1, callback()), (2, callback())];
        assert!(faults(&ticks, &logs, &received).is_empty());

        let said =
            |ticks: &[Value], logs: &[Value], received: &[(i64, Value)]| faults(ticks, logs, received).join("; ");
        assert!(said(&[run(4, 2), run(1, 1)], &logs, &received).contains("after"));
        assert!(said(&ticks, &logs[1..], &received).contains("run 2 has no log"));
        assert!(said(&ticks, &logs, &received[..1]).contains("log 2 was not called back"));
        assert!(said(&ticks, &[log(4, 2, 3), log(1, 1, 1)], &received).contains("a gap"));
        let unequal = [(1, callback()), (2, json!({"status": "success", "log": "else", "agent_output": "out"}))];
        assert!(said(&ticks, &logs, &unequal).contains("differ in `content`"));
        let pending = [json!({"id": 2, "status": "running", "sequence": 2, "fire_time": "2026-01-01T10:04:00Z"})];
        assert!(said(&ticks, &[pending[0].clone(), log(1, 1, 1)], &received).contains("has not ended"));
        let twice = [run(4, 2), skipped, run(1, 1)];
        assert!(said(&twice, &[log(4, 2, 2), log(1, 1, 1), log(1, 3, 3)], &received).contains("of no tick"));
    }
}
