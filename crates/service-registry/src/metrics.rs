//! What this microservice records.

use service_kit::telemetry::Metric;

/// What this microservice records.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "carillon_service_invocations_total",
        &["outcome"],
        "Services that run attempts were offered: counted, or repeated and so not counted again.",
    ),
    Metric::counter(
        "carillon_service_probes_total",
        &["outcome"],
        "Probes of the endpoints of services: succeeded, failed.",
    ),
];
