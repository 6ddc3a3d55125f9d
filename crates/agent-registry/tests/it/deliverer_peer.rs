//! A deliverer as the registry sees it: internal routes over real HTTP that answer as a test says.

use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use service_kit::auth::InternalVerifier;
use service_kit::clock::Clock;
use service_kit::config::InternalConfig;

/// A deliverer played by a test.
#[derive(Clone)]
pub(crate) struct DelivererPeer(Arc<Peer>);

struct Peer {
    verifier: InternalVerifier,
    clock: Clock,
    address: Mutex<Option<std::net::SocketAddr>>,
    state: Mutex<State>,
}

struct State {
    status: u16,
    answer: Value,
    not_well: Value,
    asked: Vec<(String, Value)>,
}

impl DelivererPeer {
    pub(crate) async fn start(internal: &InternalConfig, clock: Clock) -> Self {
        let verifier = InternalVerifier::new(internal, &["callback-deliverer"]);
        let state = State { status: 200, answer: json!({}), not_well: json!([]), asked: Vec::new() };
        let peer = Self(Arc::new(Peer { verifier, clock, address: Mutex::new(None), state: Mutex::new(state) }));
        let data = web::Data::new(peer.clone());
        let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(answer)));
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        *peer.0.address.lock().unwrap() = Some(server.addrs()[0]);
        tokio::spawn(server.run());
        peer
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address.lock().unwrap().unwrap())
    }

    /// From now on this is answered to everything but the question which endpoints are not well.
    pub(crate) fn set_answer(&self, status: u16, answer: Value) {
        let mut state = self.0.state.lock().unwrap();
        (state.status, state.answer) = (status, answer);
    }

    pub(crate) fn set_not_well(&self, not_well: Value) {
        self.0.state.lock().unwrap().not_well = not_well;
    }

    /// What was asked, as method and path with query, and the body.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.0.state.lock().unwrap().asked.clone()
    }
}

async fn answer(peer: web::Data<DelivererPeer>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    match token.map(|token| peer.0.verifier.verify(token, peer.0.clock.now())) {
        Some(Ok(caller)) if caller.microservice == "agent-registry" => {}
        _ => return HttpResponse::Unauthorized().finish(),
    }
    let mut state = peer.0.state.lock().unwrap();
    if request.uri().path() == "/internal/endpoints" {
        return HttpResponse::Ok().json(&state.not_well);
    }
    let question = format!("{} {}", request.method(), request.uri());
    state.asked.push((question, serde_json::from_slice(&body).unwrap_or(Value::Null)));
    HttpResponse::build(StatusCode::from_u16(state.status).unwrap()).json(&state.answer)
}
