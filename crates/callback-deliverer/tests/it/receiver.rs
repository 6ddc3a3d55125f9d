//! A tenant's receiver: a real HTTP server that keeps what it gets and answers as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use tokio::sync::watch;

/// How a receiver answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With this status and a short body.
    Status(u16),
    /// With 307 to there.
    Redirect(String),
    /// With 200 and this many bytes.
    Bytes(usize),
    /// With this status and this `Retry-After`.
    RetryAfter(u16, &'static str),
    /// Never.
    Never,
}

/// One POST as it came.
#[derive(Debug, Clone)]
pub struct Callback {
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Receiver {
    pub url: String,
    inbox: Arc<Inbox>,
}

struct Inbox {
    callbacks: watch::Sender<Vec<Callback>>,
    answer: Mutex<Answer>,
}

impl Receiver {
    pub async fn answering(answer: Answer) -> Self {
        let inbox = Arc::new(Inbox { callbacks: watch::Sender::default(), answer: Mutex::new(answer) });
        let data = web::Data::from(Arc::clone(&inbox));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(32 << 20))
                .default_service(web::to(receive))
        })
        .workers(1)
        // On a machine so busy that connections idle for seconds, hanging up on them would fail delivery attempts.
        .keep_alive(Duration::from_secs(600))
        .disable_signals()
        .shutdown_timeout(0)
        .bind(("127.0.0.1", 0))
        .unwrap();
        let url = format!("http://{}/callbacks?token=t0ps3cret", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, inbox }
    }

    pub fn answer(&self, answer: Answer) {
        *self.inbox.answer.lock().unwrap() = answer;
    }

    /// Everything received, once it is at least so much.
    pub async fn received(&self, at_least: usize) -> Vec<Callback> {
        let mut callbacks = self.inbox.callbacks.subscribe();
        let enough = callbacks.wait_for(|callbacks| callbacks.len() >= at_least);
        match tokio::time::timeout(Duration::from_secs(120), enough).await {
            Ok(callbacks) => callbacks.unwrap().clone(),
            Err(_) => panic!("only {} of {at_least} callbacks came", self.inbox.callbacks.borrow().len()),
        }
    }

    pub fn count(&self) -> usize {
        self.inbox.callbacks.borrow().len()
    }
}

impl Callback {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn receive(inbox: web::Data<Inbox>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    assert_eq!(request.method(), "POST");
    let text = |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let callback = Callback { headers: request.headers().iter().map(text).collect(), body: body.to_vec() };
    let answer = inbox.answer.lock().unwrap().clone();
    inbox.callbacks.send_modify(|callbacks| callbacks.push(callback));
    match answer {
        Answer::Status(status) => HttpResponse::build(StatusCode::from_u16(status).unwrap()).body("seen"),
        Answer::Redirect(to) => HttpResponse::TemporaryRedirect().insert_header(("location", to)).finish(),
        Answer::Bytes(count) => HttpResponse::Ok().body(vec![b'x'; count]),
        Answer::RetryAfter(status, wait) => {
            HttpResponse::build(StatusCode::from_u16(status).unwrap()).insert_header(("retry-after", wait)).finish()
        }
        Answer::Never => std::future::pending().await,
    }
}

/// HMAC-SHA256 as RFC 2104 writes it, independent of the code under test.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(digest(&SHA256, key).as_ref());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8, rest: &[u8]| {
        let mut bytes: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
        bytes.extend_from_slice(rest);
        digest(&SHA256, &bytes)
    };
    let inner = padded(0x36, message);
    hex::encode(padded(0x5c, inner.as_ref()))
}
