//! Traces: one for each run, from its tick to its receiver's answer, as OpenTelemetry spans over OTLP.
//!
//! The id of a run's trace, of its first span (the tick) and of the one that every delivery hangs from (the outcome)
//! follow from the run's id. So whoever works on a run knows where its spans belong, after any number of batches,
//! retries and restarts, and nothing is stored for it. What lies between travels as `traceparent`.
//!
//! Spans are recorded whole, when they have ended, with times that are those of the clock and of the tables: most do not
//! follow a call stack, so `tracing`'s spans would not be they. They are handed to a thread that sends them in batches.
//! Nobody waits for it: what does not fit into its queue is counted and dropped. A crash loses the spans of the last
//! second, and never a run. Without an endpoint there is no thread, and nothing is made.

mod place;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::id::RunId;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};
use url::Url;

pub use self::place::Place;
use crate::config::{ConfigError, TelemetryConfig};

/// Spans that wait at most: a few seconds of a busy process.
const QUEUE_MAX: usize = 16_384;
/// Spans in one request.
const BATCH_MAX: usize = 1_024;
/// The longest that a span waits for company.
const SENT_WITHIN: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a process that stops waits for its last spans to be sent.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// What a span is, seen from outside of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work of its own.
    Internal,
    /// It asks somebody and waits for the answer.
    Client,
    /// It sends a message.
    Producer,
    /// It works on a message.
    Consumer,
}

/// A piece of work that has ended.
#[derive(Debug)]
pub struct Span {
    name: &'static str,
    kind: Kind,
    place: Place,
    parent: Option<Place>,
    time: (DateTime<Utc>, DateTime<Utc>),
    attributes: Vec<KeyValue>,
    failure: Option<String>,
}

impl Span {
    /// A span at `place`, from the first moment to the second.
    #[must_use]
    pub fn new(name: &'static str, kind: Kind, place: Place, time: (DateTime<Utc>, DateTime<Utc>)) -> Self {
        Self { name, kind, place, parent: None, time, attributes: Vec::new(), failure: None }
    }

    /// What it is a part of, or follows from.
    #[must_use]
    pub fn under(mut self, parent: Place) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Which run, of which agent, of which organisation.
    #[must_use]
    pub fn of_run(self, run: RunId, agent: i64, organisation: &str) -> Self {
        self.with("run.id", run.0).with("agent.id", agent).with("organisation", organisation.to_owned())
    }

    /// One more attribute; never a body, a secret or a URL's query.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// It failed, for this reason, if for any.
    #[must_use]
    pub fn failed(mut self, why: Option<impl Into<String>>) -> Self {
        self.failure = why.map(Into::into);
        self
    }

    fn into_data(self, microservice: &'static str) -> SpanData {
        let flags = TraceFlags::SAMPLED;
        let (trace, span) = (TraceId::from(self.place.trace), SpanId::from(self.place.span));
        let (started_at, ended_at) = self.time;
        SpanData {
            span_context: SpanContext::new(trace, span, flags, false, TraceState::NONE),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span)),
            parent_span_is_remote: false,
            span_kind: match self.kind {
                Kind::Internal => SpanKind::Internal,
                Kind::Client => SpanKind::Client,
                Kind::Producer => SpanKind::Producer,
                Kind::Consumer => SpanKind::Consumer,
            },
            name: self.name.into(),
            start_time: started_at.into(),
            end_time: ended_at.max(started_at).into(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder(microservice).build(),
        }
    }
}

/// Where spans go; by default nowhere. Clones are the same.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Sending>>);

struct Sending {
    processor: BatchSpanProcessor,
    /// Handed over and not sent.
    waiting: Arc<AtomicUsize>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_on() { "Traces(on)" } else { "Traces(off)" })
    }
}

impl Traces {
    /// As configured, for the process of this name. Nothing is connected before there is a span.
    ///
    /// # Errors
    ///
    /// What would send them cannot be made.
    pub fn open(config: &TelemetryConfig, process: &'static str) -> Result<Self, ConfigError> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(Self::default()) };
        let failed = |problem: &dyn fmt::Display| ConfigError::setting("telemetry.otlp_endpoint", problem);
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client().map_err(|error| failed(&error))?)
            .with_endpoint(traces_of(endpoint))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| failed(&error))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder().with_service_name(process).with_attribute(version).build());
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counted { exporter, waiting: Arc::clone(&waiting), is_failing: AtomicBool::new(false) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(SENT_WITHIN);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
        Ok(Self(Some(Arc::new(Sending { processor, waiting }))))
    }

    /// Whether spans are worth making.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a span of this microservice, which is made only if somebody wants it.
    pub fn record(&self, microservice: &'static str, span: impl FnOnce() -> Span) {
        let Some(sending) = &self.0 else { return };
        if sending.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            sending.waiting.fetch_sub(1, Ordering::Relaxed);
            count("dropped", 1);
            return;
        }
        sending.processor.on_end(span().into_data(microservice));
    }

    /// Sends what waits, for [`FLUSH_WITHIN`] at most. What comes later goes nowhere.
    pub async fn flush(&self) {
        let Some(sending) = self.0.clone() else { return };
        let flushed = tokio::task::spawn_blocking(move || sending.processor.shutdown_with_timeout(FLUSH_WITHIN));
        if !matches!(flushed.await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not sent: the collector of traces does not answer in time");
        }
    }
}

/// An endpoint is a base, as the standard's own variable means it.
fn traces_of(endpoint: &Url) -> String {
    let base = endpoint.as_str().trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

/// Made on a thread of its own: a blocking client must not be made where async code runs.
fn client() -> anyhow::Result<reqwest::blocking::Client> {
    let made = std::thread::spawn(|| {
        let client = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        client.timeout(ANSWER_WITHIN).build()
    });
    Ok(made.join().map_err(|_| anyhow::anyhow!("the HTTP client cannot be made"))??)
}

/// Sends, counts, and says once when the collector goes and comes.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        count(if sent.is_ok() { "sent" } else { "failed" }, spans);
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_failing => tracing::warn!(%error, "spans cannot be sent and are lost; runs go on"),
            Ok(()) if was_failing => tracing::info!("spans can be sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn count(outcome: &'static str, spans: usize) {
    metrics::counter!("carillon_spans_total", "outcome" => outcome).increment(spans as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base() {
        for (endpoint, sent_to) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            ("https://otel/in/", "https://otel/in/v1/traces"),
            ("http://otel:4318/v1/traces", "http://otel:4318/v1/traces"),
        ] {
            assert_eq!(traces_of(&endpoint.parse().unwrap()), sent_to);
        }
    }
}
