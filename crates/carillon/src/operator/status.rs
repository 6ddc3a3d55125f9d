//! `carillon status`: who is up, and what waits, as the admin listeners tell it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Client;
use serde_json::{Value, json};

use super::access::Admin;
use super::show::{self, Column, Shape};

/// A process that does not answer for so long is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

const PROCESSES: &[Column] = &[("process", "/process"), ("ready", "/ready"), ("for want of", "/for_want_of")];
const MEASURES: &[Column] = &[("what", "/what"), ("now", "/now")];

/// What an operator wants to know first: in his words, and which metric with which labels tells it.
const SHOWN: &[(&str, &str, Labels<'_>)] = &[
    ("oldest due tick, seconds", "carillon_oldest_due_tick_seconds", &[]),
    ("oldest queued run, seconds", "carillon_oldest_queued_run_seconds", &[]),
    ("runs queued", "carillon_runs", &[("stage", "queued")]),
    ("runs waiting for a limit or a pause", "carillon_runs", &[("stage", "waiting")]),
    ("runs to be tried again", "carillon_runs", &[("stage", "delayed")]),
    ("runs requested", "carillon_runs", &[("stage", "requested")]),
    ("runs requested at most", "carillon_window_size", &[]),
    ("runs running", "carillon_runs", &[("stage", "running")]),
    ("deliveries due", "carillon_deliveries_due", &[]),
    ("oldest due delivery, seconds", "carillon_oldest_due_delivery_seconds", &[]),
    ("deliveries held", "carillon_deliveries_held", &[]),
    ("endpoints failing", "carillon_endpoints_unwell", &[("state", "failing")]),
    ("endpoints disabled", "carillon_endpoints_unwell", &[("state", "disabled")]),
    ("documents that a receiver does not hold", "carillon_registry_documents_unheld", &[]),
    ("dead letters since the start", "carillon_dead_letters_total", &[]),
];

/// Labels and their values.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// `carillon status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon status\n  \
    carillon status --admin http://10.0.0.7:9090 --admin http://10.0.0.8:9090 --output json\n\n\
    Exits 0 if every process is ready, 1 if not. What waits is measured every 15 seconds.")]
pub(crate) struct StatusArguments {
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
    #[command(flatten)]
    admin: Admin,
}

/// Asks every process and prints what they say.
pub(crate) async fn run(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let urls = arguments.admin.urls()?;
    let asked = urls.iter().map(|url| ask(&client, url.trim_end_matches('/')));
    let answers = futures::future::join_all(asked).await;
    let mut samples = Samples::default();
    for (_, metrics) in &answers {
        samples.read(metrics);
    }
    let processes: Vec<Value> = answers.into_iter().map(|(process, _)| process).collect();
    let measures: Vec<Value> = SHOWN
        .iter()
        .filter_map(|(what, metric, labels)| Some(json!({ "what": what, "now": samples.find(metric, labels)? })))
        .collect();
    match arguments.output {
        Shape::Json => show::one(&json!({ "processes": processes, "measures": measures }))?,
        Shape::Table => {
            show::rows(Shape::Table, PROCESSES, &processes)?;
            show::rows(Shape::Table, MEASURES, &measures)?;
        }
    }
    let well = processes.iter().all(|process| process["ready"] == true);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How one process is, and its metrics.
async fn ask(client: &Client, url: &str) -> (Value, String) {
    let text = async |path: &str| client.get(format!("{url}/{path}")).send().await?.text().await;
    let (ready, why) = match text("readyz").await {
        Ok(answer) => read_readiness(&answer),
        Err(error) if error.is_timeout() => (false, format!("no answer within {} seconds", TIMEOUT.as_secs())),
        Err(error) => (false, service_kit::error::chain(&error)),
    };
    let metrics = text("metrics").await.unwrap_or_default();
    let why = if why.is_empty() { Value::Null } else { why.into() };
    (json!({ "process": url, "ready": ready, "for_want_of": why }), metrics)
}

fn read_readiness(answer: &str) -> (bool, String) {
    let Ok(answer) = serde_json::from_str::<Value>(answer) else {
        return (false, "this is no admin listener of Carillon".to_owned());
    };
    let unmet = answer["not_ready"].as_object();
    let unmet = unmet
        .into_iter()
        .flatten()
        .map(|(condition, why)| format!("{condition}: {}", why.as_str().unwrap_or("not known yet")));
    (answer["ready"] == true, unmet.collect::<Vec<_>>().join("; "))
}

/// The metrics of all processes together, by name and labels. What replicas measure in one database is the same for
/// all of them; what each counts for itself is summed up.
#[derive(Default)]
struct Samples(BTreeMap<(String, BTreeMap<String, String>), f64>);

impl Samples {
    fn read(&mut self, metrics: &str) {
        let lines = metrics.lines().map(|line| Ok(line.to_owned()));
        let Ok(scraped) = prometheus_parse::Scrape::parse(lines) else { return };
        for sample in scraped.samples {
            let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let (value, add) = match sample.value {
                prometheus_parse::Value::Counter(value) => (value, true),
                prometheus_parse::Value::Gauge(value) => (value, false),
                _ => continue,
            };
            let known = self.0.entry((sample.metric, labels)).or_default();
            *known = if add { *known + value } else { known.max(value) };
        }
    }

    /// All series of a metric that have these labels, together.
    fn find(&self, metric: &str, labels: Labels<'_>) -> Option<f64> {
        let of = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
        };
        let series = self.0.iter().filter(|((name, found), _)| name == metric && of(found)).map(|(_, value)| *value);
        series.reduce(|sum, value| sum + value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_replicas_are_one_and_counters_add_up() {
        let scraped = "# TYPE carillon_runs gauge\ncarillon_runs{stage=\"queued\"} 3\n\
            # TYPE carillon_dead_letters_total counter\ncarillon_dead_letters_total{queue=\"a\"} 1\n\
            carillon_dead_letters_total{queue=\"b\"} 1\n";
        let mut samples = Samples::default();
        samples.read(scraped);
        samples.read(scraped);
        assert_eq!(samples.find("carillon_runs", &[("stage", "queued")]), Some(3.0));
        assert_eq!(samples.find("carillon_runs", &[("stage", "running")]), None);
        assert_eq!(samples.find("carillon_dead_letters_total", &[]), Some(4.0));
    }

    #[test]
    fn what_a_process_lacks_is_named() {
        assert_eq!(read_readiness(r#"{"ready": true}"#), (true, String::new()));
        let lacking = r#"{"ready": false, "not_ready": {"bus": "cannot reach the broker", "database": null}}"#;
        assert_eq!(
            read_readiness(lacking),
            (false, "bus: cannot reach the broker; database: not known yet".to_owned())
        );
        assert!(!read_readiness("<html>").0);
    }
}
