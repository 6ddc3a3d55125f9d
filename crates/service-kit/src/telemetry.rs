//! Logs and metrics: the two things that a process has only once.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::config::{ConfigError, LogFormat, TelemetryConfig};

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
    let _ = if pretty { subscriber.compact().try_init() } else { subscriber.json().flatten_event(true).try_init() };
    Ok(())
}

/// The metrics of this process, for `/metrics`. The first call begins to record them.
pub fn metrics() -> PrometheusHandle {
    static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDED.get_or_init(record).clone()
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
