//! What this microservice records.

use service_kit::telemetry::Metric;

/// What this microservice records.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "carillon_runs_ended_total",
        &["state", "reason"],
        "Runs that ended: success, error; and why, if they failed.",
    ),
    Metric::counter("carillon_run_attempts_failed_total", &["reason"], "Run attempts that failed and are made again."),
    Metric::counter(
        "carillon_schedules_set_aside_total",
        &[],
        "Times that a schedule could not be fired and was left alone for a minute.",
    ),
    Metric::histogram(
        "carillon_tick_lateness_seconds",
        &["trigger"],
        "How long after its planned moment a tick became a run: schedule, catch_up, chain, manual.",
    ),
    Metric::counter(
        "carillon_tick_spans_skipped_total",
        &["reason"],
        "Ticks, or spans of ticks, that became no run, by reason.",
    ),
    Metric::counter("carillon_requests_lost_total", &[], "Requests for runs that were lost on the way and sent again."),
    Metric::counter(
        "carillon_results_announced_again_total",
        &[],
        "Results that nobody held in time and that were announced again.",
    ),
    Metric::gauge("carillon_clock_offset_seconds", &[], "How far the database's clock is ahead of this host's."),
    Metric::gauge(
        "carillon_runs",
        &["stage"],
        "Runs that have not ended: queued, waiting (for a limit or a pause), delayed (until tried again), requested (in the window), running.",
    ),
    Metric::gauge("carillon_window_size", &[], "The most runs that may be requested: dispatcher.window."),
    Metric::gauge("carillon_oldest_queued_run_seconds", &[], "How long the oldest queued run waits for the window."),
    Metric::gauge("carillon_oldest_due_tick_seconds", &[], "How long the oldest due tick waits to be fired."),
];
