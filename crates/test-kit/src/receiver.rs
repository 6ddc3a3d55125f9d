//! A receiver of callbacks that keeps and checks what arrives.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::Value;

/// One POST that arrived.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The path, with its query.
    pub path: String,
    /// The raw body.
    pub body: Bytes,
    /// `X-Hub-Signature-256`, if any.
    pub signature: Option<String>,
    /// `webhook-id`, if any.
    pub webhook_id: Option<String>,
    /// `content-type`, if any.
    pub content_type: Option<String>,
    /// `traceparent`, if any.
    pub traceparent: Option<String>,
}

impl Callback {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the callback is no JSON: {error}"))
    }

    /// Whether the signature is the HMAC-SHA256 of the raw body: computed here, from the text of the standard.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let expected = format!("sha256={}", hex::encode(aws_lc_rs::hmac::sign(&key, &self.body)));
        self.signature.as_deref() == Some(expected.as_str())
    }
}

/// Listens on a free port of this host until the runtime ends.
#[derive(Debug, Clone)]
pub struct Receiver {
    url: String,
    arrived: Arc<Mutex<Vec<Callback>>>,
}

impl Receiver {
    /// Starts to listen, and answers 204 to everything.
    ///
    /// # Errors
    ///
    /// The host has no free port.
    pub fn start() -> anyhow::Result<Self> {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = Arc::clone(&arrived);
        let app = move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&kept)))
                .app_data(web::PayloadConfig::new(1 << 26))
                .default_service(web::to(receive))
        };
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run());
        Ok(Self { url, arrived })
    }

    /// Where it listens, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything that arrived up to now, in order.
    #[must_use]
    pub fn callbacks(&self) -> Vec<Callback> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much arrived up to now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, arrived: web::Data<Mutex<Vec<Callback>>>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let callback = Callback {
        path: request.uri().to_string(),
        body,
        signature: header("X-Hub-Signature-256"),
        webhook_id: header("webhook-id"),
        content_type: header("content-type"),
        traceparent: header("traceparent"),
    };
    arrived.lock().unwrap_or_else(PoisonError::into_inner).push(callback);
    HttpResponse::NoContent().finish()
}
