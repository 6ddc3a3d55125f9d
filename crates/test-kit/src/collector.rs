//! A collector of traces that keeps the spans that it decodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

/// One span, as a collector reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSpan {
    /// `service.name`: the process.
    pub process: String,
    /// The scope: the microservice.
    pub microservice: String,
    /// What it is called.
    pub name: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The parent's id; empty: it has none.
    pub parent: String,
    /// Nanoseconds since 1970.
    pub time: (u64, u64),
    /// As text.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Listens on a free port of this host until the runtime ends.
#[derive(Debug, Clone)]
pub struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<ReadSpan>>>,
}

impl Collector {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// The host has no free port.
    pub fn start() -> anyhow::Result<Self> {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = Arc::clone(&spans);
        let app = move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&kept)))
                .app_data(web::PayloadConfig::new(1 << 26))
                .route("/v1/traces", web::post().to(collect))
        };
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run());
        Ok(Self { url, spans })
    }

    /// What `telemetry.otlp_endpoint` is to be.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans of a trace that came up to now.
    #[must_use]
    pub fn spans_of(&self, trace_id: &str) -> Vec<ReadSpan> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }
}

async fn collect(request: HttpRequest, body: web::Bytes, spans: web::Data<Mutex<Vec<ReadSpan>>>) -> HttpResponse {
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return HttpResponse::BadRequest().finish() };
    if content_type != Some("application/x-protobuf") {
        return HttpResponse::UnsupportedMediaType().finish();
    }
    let mut kept = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in request.resource_spans {
        let of_process = attributes(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for scope in resource.scope_spans {
            let microservice = scope.scope.map(|scope| scope.name).unwrap_or_default();
            for span in scope.spans {
                let failed = span.status.filter(|status| status.code == StatusCode::Error as i32);
                kept.push(ReadSpan {
                    process: of_process.get("service.name").cloned().unwrap_or_default(),
                    microservice: microservice.clone(),
                    name: span.name,
                    trace_id: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    time: (span.start_time_unix_nano, span.end_time_unix_nano),
                    attributes: attributes(span.attributes),
                    failure: failed.map(|status| status.message),
                });
            }
        }
    }
    HttpResponse::Ok().content_type("application/x-protobuf").finish()
}

fn attributes(found: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    found.into_iter().map(|one| (one.key, text(one.value.and_then(|value| value.value)))).collect()
}
