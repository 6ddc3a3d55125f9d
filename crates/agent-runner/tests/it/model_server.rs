//! A server that answers for mentors: a real one, which keeps what it is asked and answers as it is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use service_kit::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::harness::within;

const PING_EVERY: Duration = Duration::from_millis(5);

/// How to answer one request.
pub type Script = Box<dyn Fn() -> HttpResponse + Send + Sync>;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    /// When, on the clock of the runner.
    pub at: DateTime<Utc>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct ModelServer {
    /// Scheme, host and port.
    pub url: String,
    state: Arc<State>,
}

struct State {
    clock: Clock,
    scripts: Vec<Script>,
    asked: watch::Sender<Vec<Asked>>,
}

impl ModelServer {
    /// Answers the first request by the first script, and so on; the last one goes on for ever.
    pub fn start(clock: &Clock, scripts: Vec<Script>) -> Self {
        let state = Arc::new(State { clock: clock.clone(), scripts, asked: watch::Sender::default() });
        let data = web::Data::from(Arc::clone(&state));
        let app = move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(32 << 20))
                .default_service(web::to(answer))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0);
        let server = server.bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, state }
    }

    pub fn asked_until_now(&self) -> Vec<Asked> {
        self.state.asked.borrow().clone()
    }

    /// Waits until it was asked so often.
    pub async fn asked(&self, times: usize) -> Vec<Asked> {
        let mut asked = self.state.asked.subscribe();
        within("the server is asked", asked.wait_for(|asked| asked.len() >= times)).await.unwrap().clone()
    }
}

async fn answer(state: web::Data<State>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let asked = Asked {
        path: request.uri().path_and_query().unwrap().to_string(),
        headers: headers.collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        at: state.clock.now(),
    };
    let mut index = 0;
    state.asked.send_modify(|all| {
        index = all.len();
        all.push(asked);
    });
    state.scripts[index.min(state.scripts.len() - 1)]()
}

/// A status and a JSON body.
pub fn status(status: u16, body: Value) -> Script {
    Box::new(move || HttpResponse::build(StatusCode::from_u16(status).unwrap()).json(&body))
}

/// A status, a header, and a short body.
pub fn with_header(status: u16, name: &'static str, value: impl Into<String>) -> Script {
    let value = value.into();
    Box::new(move || {
        let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
        response.insert_header((name, value.as_str())).json(json!({"error": {"message": "not now"}}))
    })
}

/// 200 with a text of this type.
pub fn text(content_type: &'static str, body: impl Into<String>) -> Script {
    let body = body.into();
    Box::new(move || HttpResponse::Ok().content_type(content_type).body(body.clone()))
}

/// A stream of these pieces that ends in order.
pub fn stream(pieces: Vec<String>) -> Script {
    Box::new(move || event_stream(stream::iter(pieces.clone()).map(|piece| Ok(web::Bytes::from(piece)))))
}

/// A stream of these pieces, whose connection then breaks.
pub fn broken_stream(pieces: Vec<String>) -> Script {
    Box::new(move || {
        let pieces = stream::iter(pieces.clone()).map(|piece| Ok(web::Bytes::from(piece)));
        let plug_pulled = stream::once(async {
            // What was said before is sent first.
            tokio::task::yield_now().await;
            Err(io::Error::other("the test pulls the plug"))
        });
        event_stream(pieces.chain(plug_pulled))
    })
}

/// The same, so much later on the clock of the runner.
pub fn later(clock: &Clock, by_ms: i64, script: Script) -> Script {
    let clock = clock.clone();
    Box::new(move || {
        clock.advance(TimeDelta::milliseconds(by_ms));
        script()
    })
}

/// A stream of these pieces that then says nothing more, and does not end.
pub fn hanging_stream(pieces: Vec<String>) -> Script {
    Box::new(move || {
        let pieces = stream::iter(pieces.clone()).map(|piece| Ok(web::Bytes::from(piece)));
        event_stream(pieces.chain(stream::pending()))
    })
}

/// A stream of these pieces, so much time on the clock of the runner between them, that then ends.
pub fn slow_stream(clock: &Clock, every_ms: i64, pieces: Vec<String>) -> Script {
    let clock = clock.clone();
    Box::new(move || {
        let clock = clock.clone();
        let pieces = stream::iter(pieces.clone()).then(move |piece| {
            let clock = clock.clone();
            async move {
                // What was said before is heard first.
                tokio::time::sleep(PING_EVERY * 20).await;
                clock.advance(TimeDelta::milliseconds(every_ms));
                Ok(web::Bytes::from(piece))
            }
        });
        event_stream(pieces)
    })
}

/// A stream of these pieces that then says again and again that it is alive, and does not end.
pub fn pinging_stream(pieces: Vec<String>) -> Script {
    Box::new(move || {
        let pieces = stream::iter(pieces.clone()).map(|piece| Ok(web::Bytes::from(piece)));
        let pings = stream::unfold((), |()| async {
            tokio::time::sleep(PING_EVERY).await;
            Some((Ok(web::Bytes::from_static(b": ping\n\n")), ()))
        });
        event_stream(pieces.chain(pings))
    })
}

/// 200 with the same piece again and again; `sent` counts its bytes.
pub fn endless(content_type: &'static str, first: &'static str, piece: String, sent: Arc<AtomicUsize>) -> Script {
    let piece = web::Bytes::from(piece);
    Box::new(move || {
        let (sent, piece) = (Arc::clone(&sent), piece.clone());
        let pieces = stream::repeat_with(move || {
            sent.fetch_add(piece.len(), Ordering::SeqCst);
            Ok::<_, io::Error>(piece.clone())
        });
        let first = stream::iter([Ok(web::Bytes::from(first))]);
        HttpResponse::Ok().content_type(content_type).streaming(first.chain(pieces))
    })
}

fn event_stream(pieces: impl Stream<Item = io::Result<web::Bytes>> + 'static) -> HttpResponse {
    HttpResponse::Ok().content_type("text/event-stream; charset=utf-8").streaming(pieces)
}

/// One event of a stream, with more of the answer.
pub fn part(content: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]}))
}

/// How a stream ends in order: the reason, the tokens, the end.
pub fn ending(prompt_tokens: i64, completion_tokens: i64) -> String {
    let stop = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": null}));
    let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens});
    format!("{stop}{}data: [DONE]\n\n", event(&json!({"choices": [], "usage": usage})))
}

pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A server that answers one request with these bytes, so many of them in each packet.
pub async fn answering_in_packets(response: Vec<u8>, packet_bytes: usize) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.set_nodelay(true).unwrap();
        // The request is small and comes at once; what it says does not matter here.
        let _ = connection.read(&mut vec![0; 64 * 1024]).await.unwrap();
        for packet in response.chunks(packet_bytes) {
            connection.write_all(packet).await.unwrap();
            connection.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        connection.shutdown().await.unwrap();
        // Until the other side closes too, so that nothing is reset.
        let _ = connection.read(&mut [0; 1]).await;
    });
    url
}
