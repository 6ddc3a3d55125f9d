//! What a metric is: the tables of these are what `/metrics` says of itself, and what `docs/metrics.md` is made from.

/// A metric, as its crate's table defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// How it counts.
    pub kind: MetricKind,
    /// Its name; that of a counter ends with `_total`, that of a time with `_seconds`.
    pub name: &'static str,
    /// Its labels; each has few values, whatever tenants do.
    pub labels: &'static [&'static str],
    /// What it tells, in one sentence.
    pub help: &'static str,
}

/// How a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever more.
    Counter,
    /// What is so now.
    Gauge,
    /// How often, and how much each time.
    Histogram,
}

impl MetricKind {
    /// As Prometheus spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { kind: MetricKind::Counter, name, labels, help }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { kind: MetricKind::Gauge, name, labels, help }
    }

    /// A histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { kind: MetricKind::Histogram, name, labels, help }
    }
}
