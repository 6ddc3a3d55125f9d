//! What this microservice records.

use service_kit::telemetry::Metric;

/// What this microservice records.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "carillon_registry_dispatcher_failures_total",
        &[],
        "Questions to the dispatcher that were not answered.",
    ),
    Metric::counter(
        "carillon_registry_deliverer_failures_total",
        &[],
        "Questions to the deliverer that were not answered.",
    ),
    Metric::counter("carillon_registry_runs_recorded_total", &[], "States of runs that were written to the log."),
    Metric::counter(
        "carillon_registry_requests_limited_total",
        &[],
        "Requests refused because an organisation had no more left this minute.",
    ),
    Metric::counter("carillon_registry_logs_expired_total", &[], "Logs that were forgotten when their time was over."),
    Metric::counter(
        "carillon_registry_documents_announced_total",
        &[],
        "Documents that were announced, each time counted.",
    ),
    Metric::gauge("carillon_registry_documents_unheld", &[], "Documents that a receiver does not hold yet."),
];
