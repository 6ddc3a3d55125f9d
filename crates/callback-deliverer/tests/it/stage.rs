//! A deliverer with a database and a bus of its own, and a clock that the test moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Consumer, Message, Queue};
use callback_deliverer::{CallbackDeliverer, Config, Dependencies};
use chrono::{DateTime, TimeDelta, Utc};
use model::document::{Agent, Alert, Document, Endpoint, Organisation, Pause, Schedule, Subject};
use model::event::{DocumentChanged, DocumentsHeld, Event, RunsFinished, RunsHeld};
use model::id::{AgentId, MentorId, OrganisationKey, RunId};
use model::run::{Run, RunRecord, RunResult, Trigger};
use model::wire::decode_event;
use serde_json::Value;
use service_kit::admin::{self, InternalRoutes, Readiness};
use service_kit::auth::{InternalSigner, InternalVerifier};
use service_kit::clock::Clock;
use service_kit::config::{ConnectionUrl, DatabaseConfig, InternalConfig, SecretsConfig};
use service_kit::http::{Listener, ServerOptions};
use service_kit::secrets::KeyRing;
use service_kit::supervise::{SuperviseError, supervise};
use service_kit::traces::Traces;
use test_kit::Backends;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub const SECRET: &str = "s3crét";
/// How long anything may take before a test has failed, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what announces itself to nobody.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const KEY: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_KEY: &str = "k2:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const INTERNAL_KEY: &str = "a-key-that-only-microservices-hold";

/// What outlives the deliverer.
pub struct Stage {
    pub clock: Clock,
    pub bus: Arc<dyn Bus>,
    pub keys: KeyRing,
    pub config: Config,
    pub database: ConnectionUrl,
    backends: Backends,
}

/// A deliverer at work.
pub struct Running {
    pub readiness: Readiness,
    internal: String,
    client: reqwest::Client,
    signer: InternalSigner,
    clock: Clock,
    shutdown: CancellationToken,
    supervisor: JoinHandle<Result<(), SuperviseError>>,
    _admin: DropGuard,
}

pub fn key_ring(keys: &str) -> KeyRing {
    KeyRing::parse(&SecretsConfig { keys: keys.to_owned().into() }).unwrap()
}

/// A key ring without the stage's own key.
pub fn other_keys() -> KeyRing {
    key_ring(OTHER_KEY)
}

/// A key ring that opens what was sealed with either.
pub fn all_keys() -> KeyRing {
    key_ring(&format!("{OTHER_KEY},{KEY}"))
}

pub fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

impl Stage {
    /// Loopback is allowed, and the deadline is as long as may be: a busy machine is no receiver that hangs.
    pub async fn new() -> Self {
        let allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
        Self::with(Config { allow_networks, deadline_ms: 60_000, ..Config::default() }).await
    }

    pub async fn with(config: Config) -> Self {
        config.validate().unwrap();
        let backends = Backends::of_environment();
        let database = ConnectionUrl::new(backends.database("deliverer"));
        let bus = backends.bus().await;
        Self { clock: Clock::manual(noon()), bus, keys: key_ring(KEY), config, database, backends }
    }

    /// Whether other processes may share its database.
    pub fn is_shared(&self) -> bool {
        self.backends.is_postgres()
    }

    pub async fn start(&self) -> Running {
        self.start_with(self.keys.clone()).await
    }

    /// Starts after a crash: what the last process leased is free at once (SQLite), or when its heartbeat is missed.
    pub async fn start_after_crash(&self) -> Running {
        self.start().await
    }

    pub async fn start_with(&self, keys: KeyRing) -> Running {
        let readiness = Readiness::new();
        let url = self.database.clone();
        let dependencies = Dependencies {
            database: DatabaseConfig { url, ..DatabaseConfig::default() },
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            readiness: readiness.clone(),
            keys,
            public_url: Some("https://carillon.example/".parse().unwrap()),
            traces: Traces::default(),
        };
        let deliverer = CallbackDeliverer::open(self.config.clone(), dependencies).await.unwrap();
        let shutdown = CancellationToken::new();
        let roles = deliverer.roles(shutdown.clone());
        let supervisor = tokio::spawn(supervise(roles, shutdown.clone(), PATIENCE));

        let config = InternalConfig { key: INTERNAL_KEY.to_owned().into() };
        let verifier = InternalVerifier::new(&config, &["callback-deliverer"]);
        let routes = InternalRoutes::new(verifier, self.clock.clone(), deliverer.internal_routes());
        let listener = Listener::bind("http.admin_listen", ([127, 0, 0, 1], 0).into()).unwrap();
        let internal = format!("http://{}/internal", listener.address());
        let admin = CancellationToken::new();
        let options = ServerOptions { workers: 1, drain: Duration::from_secs(1), ..ServerOptions::default() };
        tokio::spawn(admin::serve(listener, options, readiness.clone(), Some(routes), admin.clone()));
        Running {
            readiness,
            internal,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            signer: InternalSigner::new(&config, "agent-registry"),
            clock: self.clock.clone(),
            shutdown,
            supervisor,
            _admin: admin.drop_guard(),
        }
    }

    pub async fn publish(&self, event: &impl EventExt) {
        self.bus.publish(vec![event.message(self.clock.now())]).await.unwrap();
    }

    /// Announces an agent with a callback.
    pub async fn announce(&self, agent_id: i64, version: i64, url: &str, secret: Option<&str>) {
        let owner = format!("agent:{agent_id}");
        let sealed_secret = secret
            .map(|secret| self.keys.seal(secret.as_bytes(), &owner, "callback_secret").unwrap())
            .unwrap_or_default();
        let endpoint = Endpoint::new(url.to_owned(), sealed_secret);
        self.publish(&DocumentChanged { documents: vec![agent(agent_id, version, Some(endpoint))] }).await;
    }

    pub fn seal(&self, agent_id: i64, secret: &str) -> Vec<u8> {
        self.keys.seal(secret.as_bytes(), &format!("agent:{agent_id}"), "callback_secret").unwrap()
    }

    /// Announces an agent with this endpoint.
    pub async fn announce_endpoint(&self, agent_id: i64, version: i64, endpoint: Endpoint) {
        self.publish(&DocumentChanged { documents: vec![agent(agent_id, version, Some(endpoint))] }).await;
    }

    /// Announces the organisation with an alert URL.
    pub async fn announce_alerts(&self, url: &str) {
        let sealed_secret = self.keys.seal(SECRET.as_bytes(), "organisation:acme", "alert_secret").unwrap();
        let alert = Some(Alert { url: url.to_owned(), sealed_secret });
        let subject = Subject::Organisation(Organisation { alert, ..Organisation::default() });
        self.publish(&DocumentChanged { documents: vec![document(1, subject)] }).await;
    }

    pub async fn finish(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.publish(&RunsFinished { runs: runs.into_iter().collect() }).await;
    }

    pub async fn documents_held(&self) -> Consumer {
        self.bus.consume(Queue::AgentRegistryDocumentsHeld, 1000).await.unwrap()
    }

    pub async fn runs_held(&self) -> Consumer {
        self.bus.consume(Queue::CronDispatcherRunsHeld, 1000).await.unwrap()
    }
}

pub trait EventExt {
    fn message(&self, time: DateTime<Utc>) -> Message;
}

impl<E: Event> EventExt for E {
    fn message(&self, time: DateTime<Utc>) -> Message {
        Message::new(E::KIND, "test", time, self.encode())
    }
}

/// The next `runs.held`.
pub async fn next_held(consumer: &mut Consumer) -> RunsHeld {
    next(consumer).await
}

/// The next `documents.held`.
pub async fn next_documents_held(consumer: &mut Consumer) -> DocumentsHeld {
    next(consumer).await
}

async fn next<E: Event>(consumer: &mut Consumer) -> E {
    let batch = tokio::time::timeout(PATIENCE, consumer.next_batch(1, 1)).await.expect("nothing is held");
    let delivery = batch.unwrap().remove(0);
    let event = decode_event(delivery.message.kind, &delivery.message.body).unwrap();
    delivery.ack().await.unwrap();
    event
}

impl Running {
    /// `GET /internal/{path}`: status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let token = self.signer.sign("callback-deliverer", self.clock.now()).unwrap();
        self.get_with(path, &token).await
    }

    pub async fn get_with(&self, path: &str, token: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}/{path}", self.internal)).bearer_auth(token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// `POST /internal/{path}` with JSON: status and body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let token = self.signer.sign("callback-deliverer", self.clock.now()).unwrap();
        let request = self.client.post(format!("{}/{path}", self.internal)).bearer_auth(token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What a path shows, once `wanted` says so.
    pub async fn shown(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (mut last, begun) = (Value::Null, Instant::now());
        while begun.elapsed() < PATIENCE {
            last = self.get(path).await.1;
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{path} never came to that: {last:#}");
    }

    /// The delivery of a run with its delivery attempts, once `wanted` says so.
    pub async fn delivery(&self, log: i64, wanted: impl Fn(&Value) -> bool) -> Value {
        let (mut last, begun) = (Value::Null, Instant::now());
        while begun.elapsed() < PATIENCE {
            let (_, page) = self.get(&format!("deliveries?log={log}")).await;
            if let Some(id) = page["results"][0]["id"].as_i64() {
                last = self.get(&format!("deliveries/{id}")).await.1;
                if wanted(&last) {
                    return last;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("the delivery never came to that: {last:#}");
    }

    pub async fn settled(&self, log: i64, status: &str) -> Value {
        self.delivery(log, |delivery| delivery["status"] == status).await
    }

    pub async fn attempted(&self, log: i64, times: i64) -> Value {
        self.delivery(log, |delivery| delivery["delivery_attempts_made"] == times).await
    }

    /// Once `wanted` holds of readiness.
    pub async fn readiness(&self, wanted: impl Fn(&Readiness) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if wanted(&self.readiness) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("readiness stays {:?}", self.readiness.unmet());
    }

    /// Stops it as SIGTERM would.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.supervisor.await.unwrap().unwrap();
    }

    /// Stops it as kill -9 would, as far as one process can play that.
    pub async fn crash(self) {
        self.supervisor.abort();
        assert!(self.supervisor.await.unwrap_err().is_cancelled());
    }
}

pub fn agent(agent_id: i64, version: i64, endpoint: Option<Endpoint>) -> Document {
    let schedule = Schedule { timing_version: 1, ..Schedule::default() };
    let agent = Agent {
        id: AgentId(agent_id),
        mentor_id: MentorId(1),
        title: "Brief".into(),
        prompt: "Good morning".into(),
        username: "ada".into(),
        last_editor: "ada".into(),
        schedule,
        endpoint,
        pathway: String::new(),
        parent_session_id: String::new(),
        parent_mentor_id: None,
        previous: None,
        pause: Pause::default(),
        runs_in_flight_max: None,
    };
    document(version, Subject::Agent(Box::new(agent)))
}

pub fn document(version: i64, subject: Subject) -> Document {
    Document { organisation: OrganisationKey("acme".into()), version, subject }
}

/// A version as the registry would give it to an edit at that moment.
pub fn version_at(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// A run of the agent that ended well a second before noon.
pub fn run(agent_id: i64, log: i64) -> RunRecord {
    let ended_at = noon() - TimeDelta::seconds(1);
    let result = RunResult { output: format!("output {log}"), log: "asked\nanswered".into(), ..RunResult::default() };
    RunRecord {
        run: Run {
            id: RunId(log),
            organisation: OrganisationKey("acme".into()),
            agent_id: AgentId(agent_id),
            trigger: Trigger::Schedule,
            fire_time: noon() - TimeDelta::minutes(1),
            nominal_time: noon() - TimeDelta::minutes(1),
            sequence: 1,
            run_attempt: 1,
            passed_over: 0,
        },
        state: result.state(),
        prompt: "Good morning".into(),
        requested_at: noon() - TimeDelta::minutes(1),
        started_at: Some(noon() - TimeDelta::seconds(2)),
        ended_at: Some(ended_at),
        result: Some(result),
        next_fire_time: None,
        finished_timing_version: None,
        agent_version: None,
    }
}
