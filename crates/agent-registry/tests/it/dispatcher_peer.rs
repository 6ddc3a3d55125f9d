//! A dispatcher as the registry sees it: three internal routes over real HTTP, with protobuf bodies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use chrono::{DateTime, Utc};
use model::document::{Document, HeldDocument, Receiver, Subject};
use model::event::{DocumentChanged, DocumentsHeld};
use model::id::{AgentId, OrganisationKey, RunId};
use model::internal::{TickPage, TriggerRequest};
use model::run::{Run, RunReason, RunRecord, RunResult, RunState, Tick, TickOutcome, Trigger};
use model::wire::Wire;
use service_kit::auth::InternalVerifier;
use service_kit::clock::Clock;
use service_kit::config::InternalConfig;

/// A dispatcher played by a test.
#[derive(Clone)]
pub(crate) struct DispatcherPeer(Arc<Peer>);

struct Peer {
    verifier: InternalVerifier,
    clock: Clock,
    away: AtomicBool,
    address: Mutex<Option<std::net::SocketAddr>>,
    state: Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    next_id: i64,
    triggers: Vec<TriggerRequest>,
    runs: HashMap<i64, RunRecord>,
    ticks: HashMap<i64, Vec<Tick>>,
    handed_over: Vec<Document>,
    pauses: Vec<serde_json::Value>,
    /// Runs that were asked for, by id.
    asked_runs: Vec<i64>,
    /// Runs by the key that they were asked for with.
    keys: HashMap<String, RunRecord>,
    dies_after_runs: bool,
}

impl DispatcherPeer {
    pub(crate) async fn start(internal: &InternalConfig, clock: Clock) -> Self {
        let peer = Self(Arc::new(Peer {
            verifier: InternalVerifier::new(internal, &["cron-dispatcher"]),
            clock,
            away: AtomicBool::new(false),
            address: Mutex::new(None),
            state: Mutex::new(PeerState { next_id: 1_000, ..PeerState::default() }),
        }));
        let data = web::Data::new(peer.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/internal/runs", web::post().to(trigger))
                .route("/internal/runs/{id}", web::get().to(run))
                .route("/internal/runs/{id}/cancel", web::post().to(cancel))
                .route("/internal/agents/{id}/ticks", web::get().to(ticks))
                .route("/internal/documents", web::post().to(documents))
                .route("/internal/pause", web::put().to(pause))
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        *peer.0.address.lock().unwrap() = Some(server.addrs()[0]);
        tokio::spawn(server.run());
        peer
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address.lock().unwrap().unwrap())
    }

    /// From now on nothing is answered but 503; or everything again.
    pub(crate) fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::Relaxed);
    }

    /// From now on runs are made, but nobody is told of it.
    pub(crate) fn set_dies_after_runs(&self, dies: bool) {
        self.0.state.lock().unwrap().dies_after_runs = dies;
    }

    pub(crate) fn triggers(&self) -> Vec<TriggerRequest> {
        self.0.state.lock().unwrap().triggers.clone()
    }

    /// Knows a run, in this state.
    pub(crate) fn know(&self, record: RunRecord) {
        self.0.state.lock().unwrap().runs.insert(record.run.id.0, record);
    }

    pub(crate) fn set_ticks(&self, agent_id: i64, ticks: Vec<Tick>) {
        self.0.state.lock().unwrap().ticks.insert(agent_id, ticks);
    }

    /// The documents that were handed over since the last time.
    pub(crate) fn take_handed_over(&self) -> Vec<Document> {
        std::mem::take(&mut self.0.state.lock().unwrap().handed_over)
    }

    /// The runs that were asked for.
    pub(crate) fn asked_runs(&self) -> Vec<i64> {
        self.0.state.lock().unwrap().asked_runs.clone()
    }

    /// What was said of everything.
    pub(crate) fn pauses(&self) -> Vec<serde_json::Value> {
        self.0.state.lock().unwrap().pauses.clone()
    }

    /// Refuses who is not the registry.
    fn refusal(&self, request: &HttpRequest) -> Option<HttpResponse> {
        if self.0.away.load(Ordering::Relaxed) {
            return Some(HttpResponse::ServiceUnavailable().finish());
        }
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        match token.map(|token| self.0.verifier.verify(token, self.0.clock.now())) {
            Some(Ok(caller)) if caller.microservice == "agent-registry" => None,
            _ => Some(HttpResponse::Unauthorized().finish()),
        }
    }
}

/// A run that was just requested.
pub(crate) fn pending_run(id: i64, organisation: &str, agent_id: i64, now: DateTime<Utc>) -> RunRecord {
    RunRecord {
        run: Run {
            id: RunId(id),
            organisation: OrganisationKey(organisation.into()),
            agent_id: AgentId(agent_id),
            trigger: Trigger::Schedule,
            fire_time: now,
            nominal_time: now,
            sequence: 1,
            run_attempt: 1,
            passed_over: 0,
        },
        state: RunState::Pending,
        prompt: "What is new?".into(),
        requested_at: now,
        started_at: None,
        ended_at: None,
        result: None,
        next_fire_time: None,
        finished_timing_version: None,
        agent_version: None,
    }
}

fn answer(status: StatusCode, body: &impl Wire) -> HttpResponse {
    HttpResponse::build(status).content_type("application/x-protobuf").body(body.encode())
}

async fn trigger(peer: web::Data<DispatcherPeer>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    let trigger = TriggerRequest::decode(&body).unwrap();
    let agent = trigger.documents.iter().find_map(|document| match &document.subject {
        Subject::Agent(agent) => Some((document.organisation.clone(), agent.prompt.clone())),
        _ => None,
    });
    let Some((organisation, prompt)) = agent else { return HttpResponse::NotFound().finish() };
    let now = peer.0.clock.now();
    let mut state = peer.0.state.lock().unwrap();
    if let Some(record) = state.keys.get(&trigger.idempotency_key) {
        return answer(StatusCode::ACCEPTED, record);
    }
    state.next_id += 1;
    let mut record = pending_run(state.next_id, organisation.as_str(), trigger.agent_id.0, now);
    record.run.trigger = Trigger::Manual;
    record.run.nominal_time = trigger.nominal_time.unwrap_or(now);
    record.prompt = trigger.prompt.clone().unwrap_or(prompt);
    state.runs.insert(record.run.id.0, record.clone());
    if !trigger.idempotency_key.is_empty() {
        state.keys.insert(trigger.idempotency_key.clone(), record.clone());
    }
    state.triggers.push(trigger);
    if state.dies_after_runs {
        return HttpResponse::InternalServerError().finish();
    }
    answer(StatusCode::ACCEPTED, &record)
}

async fn run(peer: web::Data<DispatcherPeer>, request: HttpRequest, id: web::Path<i64>) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    let mut state = peer.0.state.lock().unwrap();
    state.asked_runs.push(*id);
    match state.runs.get(&id) {
        Some(record) => answer(StatusCode::OK, record),
        None => HttpResponse::NotFound().finish(),
    }
}

async fn cancel(peer: web::Data<DispatcherPeer>, request: HttpRequest, id: web::Path<i64>) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    let now = peer.0.clock.now();
    match peer.0.state.lock().unwrap().runs.get_mut(&id) {
        Some(record) => {
            let result = RunResult { reason: Some(RunReason::Cancelled), ..RunResult::default() };
            (record.state, record.ended_at, record.result) = (RunState::Error, Some(now), Some(result));
            answer(StatusCode::OK, record)
        }
        None => HttpResponse::NotFound().finish(),
    }
}

#[derive(serde::Deserialize)]
struct Window {
    page: usize,
    page_size: usize,
    outcome: Option<String>,
    from: Option<DateTime<Utc>>,
}

async fn ticks(
    peer: web::Data<DispatcherPeer>,
    request: HttpRequest,
    id: web::Path<i64>,
    window: web::Query<Window>,
) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    let state = peer.0.state.lock().unwrap();
    let Some(all) = state.ticks.get(&id) else { return HttpResponse::NotFound().finish() };
    let wanted = |tick: &&Tick| {
        let word = if matches!(tick.outcome, TickOutcome::Run(_)) { "run" } else { "skipped" };
        window.outcome.as_ref().is_none_or(|outcome| outcome.split(',').any(|one| one == word))
            && window.from.is_none_or(|from| tick.fire_time >= from)
    };
    let all: Vec<&Tick> = all.iter().filter(wanted).collect();
    let page = all
        .iter()
        .skip((window.page - 1) * window.page_size)
        .take(window.page_size)
        .map(|tick| (*tick).clone())
        .collect();
    answer(StatusCode::OK, &TickPage { count: i64::try_from(all.len()).unwrap(), ticks: page })
}

async fn documents(peer: web::Data<DispatcherPeer>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    let documents = DocumentChanged::decode(&body).unwrap().documents;
    let held = |document: &Document| HeldDocument {
        kind: document.kind(),
        key: document.key(),
        version: document.version,
        next_fire_time: None,
    };
    let held = DocumentsHeld {
        receiver: Receiver::CronDispatcher,
        documents: documents.iter().map(held).collect(),
        replanned: Vec::new(),
    };
    peer.0.state.lock().unwrap().handed_over.extend(documents);
    answer(StatusCode::OK, &held)
}

async fn pause(
    peer: web::Data<DispatcherPeer>,
    request: HttpRequest,
    body: web::Json<serde_json::Value>,
) -> HttpResponse {
    if let Some(refusal) = peer.refusal(&request) {
        return refusal;
    }
    peer.0.state.lock().unwrap().pauses.push(body.into_inner());
    HttpResponse::Ok().finish()
}
