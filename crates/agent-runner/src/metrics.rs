//! What this microservice records.

use service_kit::telemetry::Metric;

/// What this microservice records.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "carillon_runs_asked_total",
        &["provider", "outcome"],
        "Runs that were asked of a mentor: success, or why it failed.",
    ),
    Metric::histogram(
        "carillon_run_seconds",
        &["provider"],
        "How long mentors took to answer, all requests of a run together.",
    ),
    Metric::gauge("carillon_runs_in_flight", &[], "Runs that this process has in hand."),
    Metric::gauge(
        "carillon_runner_concurrency",
        &[],
        "The most runs that this process takes in hand: runner.concurrency.",
    ),
    Metric::counter(
        "carillon_requests_dropped_total",
        &["reason"],
        "Requests for runs that were over already: cancelled, answered.",
    ),
    Metric::counter(
        "carillon_provider_requests_total",
        &["provider", "outcome"],
        "Requests to providers: answered, or the class of the failure.",
    ),
    Metric::counter(
        "carillon_service_lookups_total",
        &["outcome"],
        "Questions which services a run may call: asked of the service registry, kept from before, failed.",
    ),
    Metric::counter("carillon_service_calls_total", &["outcome"], "Calls of services by models: answered, or why not."),
    Metric::histogram("carillon_service_call_seconds", &[], "How long calls of services took."),
];
