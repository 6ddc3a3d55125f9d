//! docs/metrics.md, from the tables that each crate registers its metrics with.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use service_kit::telemetry::{Metric, MetricKind};

/// Every table, and whose it is.
const TABLES: [(&str, &str, &[Metric]); 7] = [
    ("Every microservice", "crates/service-kit/src", service_kit::telemetry::METRICS),
    ("The bus", "crates/bus/src", bus::METRICS),
    ("agent-registry", "crates/agent-registry/src", agent_registry::METRICS),
    ("cron-dispatcher", "crates/cron-dispatcher/src", cron_dispatcher::METRICS),
    ("agent-runner", "crates/agent-runner/src", agent_runner::METRICS),
    ("callback-deliverer", "crates/callback-deliverer/src", callback_deliverer::METRICS),
    ("service-registry", "crates/service-registry/src", service_registry::METRICS),
];

const INTRODUCTION: &str = "\
# Metrics

Every process serves its metrics at `/metrics` of its admin listener (`http.admin_listen`), in the Prometheus text format.
Made from the code by `UPDATE=1 cargo test -p carillon reference`; a test keeps it true, and another holds it against
what a running Carillon answers.

No label holds what tenants choose: routes are patterns, and there is none for organisations, agents or receivers. Times
are in seconds, histograms from a millisecond to ten minutes. Gauges of what waits are measured every 15 seconds in the
database, so that every replica reports the same: take the `max`, never the `sum`. What to be warned of is in
[runbooks.md](runbooks.md), a dashboard in [deploy/grafana](../deploy/grafana/carillon.json).
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (owner, _, table) in TABLES {
        let _ = write!(page, "\n## {owner}\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
        for Metric { kind, name, labels, help } in table {
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(page, "| `{name}` | {} | {labels} | {help} |", kind.as_str());
        }
    }
    page
}

/// Every name of a metric that stands in the sources under `folder`, but for those of tests.
fn recorded(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            recorded(&path, names);
        } else if path.file_name().is_some_and(|name| name != "metrics.rs" && name != "telemetry.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["counter!(", "gauge!(", "histogram!("] {
                let named = text.split(call).skip(1).filter_map(|call| call.split('"').nth(1));
                names.extend(named.filter(|name| name.starts_with("carillon_")).map(str::to_owned));
            }
        }
    }
}

#[test]
fn the_page_of_metrics_is_what_the_code_registers() {
    super::keep("docs/metrics.md", &page());
}

#[test]
fn every_metric_that_is_recorded_is_in_its_table_and_no_other() {
    for (owner, sources, table) in TABLES {
        let mut names = BTreeSet::new();
        recorded(&super::path(sources), &mut names);
        let tabled: BTreeSet<String> = table.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(names, tabled, "{owner}: recorded, and in its table");
        assert_eq!(tabled.len(), table.len(), "{owner}: one is there twice");
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for Metric { kind, name, labels, help } in TABLES.iter().flat_map(|(_, _, table)| *table) {
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(name.starts_with("carillon_") && is_name(name) && labels.iter().all(|label| is_name(label)), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        assert!(*kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
    }
}
