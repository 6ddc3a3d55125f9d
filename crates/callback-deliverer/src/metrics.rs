//! What this microservice records.

use service_kit::telemetry::Metric;

/// What this microservice records.
pub const METRICS: &[Metric] = &[
    Metric::counter("carillon_deliveries_made_total", &[], "Deliveries that were made of results and skipped ticks."),
    Metric::counter(
        "carillon_deliveries_settled_total",
        &["status"],
        "Deliveries that came to rest: delivered, held, exhausted, discarded.",
    ),
    Metric::histogram("carillon_delivery_seconds", &[], "From the making of a delivery until its receiver had it."),
    Metric::counter(
        "carillon_delivery_attempts_total",
        &["outcome"],
        "Delivery attempts, by what came of them: delivered, or the class of the error.",
    ),
    Metric::histogram("carillon_delivery_attempt_seconds", &[], "How long delivery attempts took."),
    Metric::gauge("carillon_deliveries_in_flight", &[], "Delivery attempts that this process is making."),
    Metric::gauge("carillon_deliveries_due", &[], "Deliveries that are due and not delivered."),
    Metric::gauge("carillon_oldest_due_delivery_seconds", &[], "How long the oldest due delivery is due."),
    Metric::gauge("carillon_deliveries_held", &[], "Deliveries that wait until somebody enables their endpoint."),
    Metric::gauge("carillon_endpoints_unwell", &["state"], "Endpoints that are not well: failing, disabled."),
    Metric::counter(
        "carillon_endpoint_warnings_total",
        &["percent"],
        "Warnings that an endpoint has been failing for that share of the time after which it is disabled.",
    ),
    Metric::counter(
        "carillon_lanes_closed_total",
        &[],
        "Times that a receiver was left alone for a moment because it did not answer.",
    ),
];
