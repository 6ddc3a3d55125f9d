//! Logs and metrics: the two things that a process has only once.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, reload};

pub use model::metric::{Metric, MetricKind};

use crate::config::{ConfigError, LogFormat, TelemetryConfig};

/// What this crate records itself.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "carillon_http_requests_total",
        &["server", "method", "route", "status"],
        "Requests answered, by the route's pattern.",
    ),
    Metric::histogram(
        "carillon_http_request_duration_seconds",
        &["server", "method", "route"],
        "How long requests took to answer.",
    ),
    Metric::gauge("carillon_condition_met", &["condition"], "1: met, 0: not ready for want of it; /readyz says why."),
    Metric::gauge("carillon_database_connections_in_use", &[], "Connections to databases that are at work."),
    Metric::histogram("carillon_database_wait_seconds", &[], "How long work waited for its connection."),
    Metric::counter(
        "carillon_auth_key_set_fetches_total",
        &["outcome"],
        "Times that the identity provider's key set was fetched: ok, failed.",
    ),
    Metric::counter(
        "carillon_spans_total",
        &["outcome"],
        "Spans of traces: sent, failed (the collector did not take them), dropped (it is too slow).",
    ),
];

/// From a millisecond to ten minutes: an API call, a delivery and a mentor's answer all fit in.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// How often histograms are folded up; unfolded they grow with every sample.
const UPKEEP: Duration = Duration::from_secs(5);

/// Sends logs to standard error from now on. Where that is decided already, as in a test, it stays.
///
/// # Errors
///
/// A filter that is not understood.
pub fn init(config: &TelemetryConfig) -> Result<(), ConfigError> {
    let terminal = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(config.filter()?).with_writer(std::io::stderr).with_ansi(terminal);
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    // An error means that there is a subscriber already.
    if pretty {
        let subscriber = subscriber.compact().with_filter_reloading();
        let handle = subscriber.reload_handle();
        if subscriber.try_init().is_ok() {
            LogLevel::keep(config, move |filter| handle.reload(filter));
        }
    } else {
        // The innermost span says which run a line is about, of which organisation, in which trace.
        let subscriber = subscriber.json().flatten_event(true).with_span_list(false).with_filter_reloading();
        let handle = subscriber.reload_handle();
        if subscriber.try_init().is_ok() {
            LogLevel::keep(config, move |filter| handle.reload(filter));
        }
    }
    Ok(())
}

/// What is logged, which may be changed while the process runs.
pub struct LogLevel {
    configured: String,
    now: Mutex<String>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// A process has one subscriber, so it has one of these.
static LOG_LEVEL: OnceLock<LogLevel> = OnceLock::new();

impl LogLevel {
    /// That of this process; none: somebody else decides what is logged, as in a test.
    #[must_use]
    pub fn of_process() -> Option<&'static Self> {
        LOG_LEVEL.get()
    }

    fn keep(config: &TelemetryConfig, reload: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static) {
        let (configured, now) = (config.log.clone(), Mutex::new(config.log.clone()));
        // Only the first subscriber gets here.
        let _ = LOG_LEVEL.set(Self { configured, now, reload: Box::new(reload) });
    }

    /// As `telemetry.log` would say it.
    #[must_use]
    pub fn now(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by these directives from now on, until the process ends; by the configured ones if there are none.
    ///
    /// # Errors
    ///
    /// They are not understood; nothing is changed.
    pub fn change(&self, directives: &str) -> Result<(), ConfigError> {
        let log = if directives.is_empty() { self.configured.clone() } else { directives.to_owned() };
        let filter = TelemetryConfig { log: log.clone(), ..TelemetryConfig::default() }.filter()?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (self.reload)(filter).map_err(|error| ConfigError::setting("telemetry.log", error))?;
        tracing::warn!(log, before = *now, "what is logged was changed");
        *now = log;
        Ok(())
    }
}

/// The metrics of this process, for `/metrics`. The first call begins to record them.
pub fn metrics() -> PrometheusHandle {
    static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDED.get_or_init(record).clone()
}

/// Tells `/metrics` what these are. Counters without labels are there from now on, at zero, so that the first one
/// counts as an increase.
pub fn describe(table: &[Metric]) {
    metrics();
    for metric in table {
        let unit = if metric.name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
        }
        if metric.kind == MetricKind::Counter && metric.labels.is_empty() {
            metrics::counter!(metric.name).increment(0);
        }
    }
}

fn record() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let recorder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS) {
        Ok(builder) => builder.build_recorder(),
        // Only an empty list of buckets is refused.
        Err(_) => PrometheusBuilder::new().build_recorder(),
    };
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("metrics are recorded elsewhere in this process: /metrics will be empty");
    }
    let folded = handle.clone();
    let folding = thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            thread::sleep(UPKEEP);
            folded.run_upkeep();
        }
    });
    if folding.is_err() {
        tracing::warn!("no thread for the upkeep of metrics: they fold up only when they are read");
    }
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_anywhere_in_the_process_is_rendered() {
        let handle = metrics();
        metrics::counter!("kit_test_total").increment(3);
        metrics::histogram!("kit_test_seconds").record(0.2);
        let text = metrics().render();
        assert!(text.contains("kit_test_total 3"), "{text}");
        assert!(text.contains("kit_test_seconds_bucket{le=\"0.25\"} 1"), "{text}");
        drop(handle);
    }
}
