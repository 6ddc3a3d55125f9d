//! A pause with three dispatchers and real runners: nothing starts once it is answered, and nothing is lost by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, test as http, web};
use agent_runner::provider::{Answer, AskError, Provider, Question};
use agent_runner::{AgentRunner, Config};
use async_trait::async_trait;
use bus::{Bus, Consumer, Queue};
use chrono::{DateTime, TimeDelta, Utc};
use cron_dispatcher::{CronDispatcher, Dependencies, DispatcherConfig};
use model::document::{Agent, Document, Mentor, Organisation, Pause, Schedule, Subject, next_version};
use model::event::{DocumentChanged, RunsRecorded};
use model::id::{AgentId, MentorId, OrganisationKey};
use model::internal::TriggerRequest;
use model::run::RunState;
use model::wire::{Wire, decode_event};
use serde_json::json;
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::{ConnectionUrl, DatabaseConfig, InternalConfig, SecretsConfig};
use service_kit::egress::Guard;
use service_kit::secrets::{KeyRing, Secret};
use service_kit::supervise::{Role, supervise};
use service_kit::traces::Traces;
use test_kit::Backends;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RUNS: usize = 120;
const DISPATCHERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(180);

/// A model that notes when it is asked, and answers nobody until it may.
struct SlowModel {
    clock: Clock,
    may_answer: watch::Sender<bool>,
    asked: Mutex<Vec<DateTime<Utc>>>,
}

#[async_trait]
impl Provider for SlowModel {
    async fn ask(&self, _: Question) -> Result<Answer, AskError> {
        self.asked.lock().unwrap().push(self.clock.now());
        self.may_answer.subscribe().wait_for(|may| *may).await.unwrap();
        Ok(Answer { output: "done".into(), ..Answer::default() })
    }
}

struct House {
    _backends: Backends,
    bus: Arc<dyn Bus>,
    clock: Clock,
    model: Arc<SlowModel>,
    dispatchers: Vec<CronDispatcher>,
    recorded: Consumer,
    shutdown: CancellationToken,
}

impl House {
    async fn open() -> Self {
        let backends = Backends::of_environment();
        let (bus, clock) = (backends.bus().await, Clock::host());
        let url = ConnectionUrl::new(backends.database("dispatcher"));
        let database = DatabaseConfig { url, ..DatabaseConfig::default() };
        let recorded = bus.consume(Queue::AgentRegistryRuns, 100).await.unwrap();
        let (shutdown, mut dispatchers) = (CancellationToken::new(), Vec::new());
        for _ in 0..DISPATCHERS {
            let dependencies = Dependencies {
                database: database.clone(),
                bus: Arc::clone(&bus),
                clock: clock.clone(),
                readiness: Readiness::new(),
                traces: Traces::default(),
            };
            let config = DispatcherConfig { window: 12, ..DispatcherConfig::default() };
            dispatchers.push(CronDispatcher::open(config, dependencies).await.unwrap());
        }
        let model = Arc::new(SlowModel {
            clock: clock.clone(),
            may_answer: watch::Sender::new(false),
            asked: Mutex::default(),
        });
        let house = Self { _backends: backends, bus, clock, model, dispatchers, recorded, shutdown };
        for dispatcher in &house.dispatchers {
            house.run(dispatcher.roles(house.shutdown.clone()));
        }
        for _ in 0..2 {
            house.start_runner().await;
        }
        house
    }

    async fn start_runner(&self) {
        let mut config = Config::default();
        config.sessions.key = agent_runner::generate_session_key().unwrap().private_pem;
        config.runner.concurrency = 3;
        let secrets = SecretsConfig { keys: Secret::new(format!("k1:{}", "A".repeat(43) + "=")) };
        let dependencies = agent_runner::Dependencies {
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            readiness: Readiness::new(),
            internal: InternalConfig::default(),
            keys: KeyRing::parse(&secrets).unwrap(),
            egress: Guard::new(Vec::new()),
            traces: Traces::default(),
            providers: vec![("slow".to_owned(), Arc::clone(&self.model) as Arc<dyn Provider>)],
        };
        let runner = AgentRunner::open(config, dependencies).await.unwrap();
        self.run(runner.roles(self.shutdown.clone()));
    }

    fn run(&self, roles: Vec<Role>) {
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { supervise(roles, shutdown, PATIENCE).await.unwrap() });
    }

    async fn ask(&self, dispatcher: usize, request: http::TestRequest) -> web::Bytes {
        let app = http::init_service(App::new().configure(self.dispatchers[dispatcher].internal_routes())).await;
        let response = http::call_service(&app, request.to_request()).await;
        assert!(response.status().is_success(), "{}", response.status());
        http::read_body(response).await
    }

    fn asked(&self) -> Vec<DateTime<Utc>> {
        self.model.asked.lock().unwrap().clone()
    }

    async fn until_asked(&self, times: usize) {
        let asked = async {
            while self.asked().len() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the model is asked");
    }

    /// Waits until all runs have succeeded; returns how each ended, by its id.
    async fn until_all_succeeded(&mut self) -> BTreeMap<i64, RunState> {
        let mut ended = BTreeMap::new();
        let all = async {
            while ended.len() < RUNS {
                for delivery in self.recorded.next_batch(100, usize::MAX).await.unwrap() {
                    let event: RunsRecorded = decode_event(delivery.message.kind, &delivery.message.body).unwrap();
                    delivery.ack().await.unwrap();
                    let finals = event.runs.into_iter().filter(|record| record.state.is_final());
                    ended.extend(finals.map(|record| (record.run.id.0, record.state)));
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all runs end");
        ended
    }
}

fn documents(version: i64) -> Vec<Document> {
    let mentor = Mentor {
        id: MentorId(1),
        unique_id: "1c1c1c1c-0000-4000-8000-000000000001".into(),
        name: "Slow".into(),
        system_prompt: String::new(),
        provider: model::document::Provider { kind: "slow".into(), ..model::document::Provider::default() },
        runs_in_flight_max: None,
        service_groups: Vec::new(),
    };
    let agent = Agent {
        id: AgentId(7),
        mentor_id: MentorId(1),
        title: "Asked by hand".into(),
        prompt: "what is new?".into(),
        username: "admin".into(),
        last_editor: "admin".into(),
        schedule: Schedule { enabled: false, timing_version: version, ..Schedule::default() },
        endpoint: None,
        pathway: String::new(),
        parent_session_id: String::new(),
        parent_mentor_id: None,
        previous: None,
        pause: Pause::default(),
        runs_in_flight_max: None,
    };
    let of = |subject| Document { organisation: OrganisationKey("acme".into()), version, subject };
    vec![
        of(Subject::Organisation(Organisation::default())),
        of(Subject::Mentor(mentor)),
        of(Subject::Agent(Box::new(agent))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_a_pause_no_run_starts_and_after_the_resume_each_ends_once() {
    let mut house = House::open().await;
    let documents = documents(next_version(0, house.clock.now()));
    let body = DocumentChanged { documents: documents.clone() }.encode();
    house.ask(0, http::TestRequest::post().uri("/documents").set_payload(body)).await;
    for one in 0..RUNS {
        let asked = TriggerRequest {
            documents: Vec::new(),
            agent_id: AgentId(7),
            prompt: None,
            nominal_time: None,
            idempotency_key: String::new(),
        };
        house.ask(one % DISPATCHERS, http::TestRequest::post().uri("/runs").set_payload(asked.encode())).await;
    }
    // As many as the runners have slots; twice as many more are at the broker.
    house.until_asked(6).await;

    let paused = http::TestRequest::put().uri("/pause").set_json(json!({ "paused": true, "note": "stop" }));
    house.ask(1, paused).await;
    let answered_at = house.clock.now();
    // A runner that joins now has not heard of the pause, and finds at the broker what was taken back.
    house.start_runner().await;
    // Nothing is to happen: there is nothing but time to wait for. Slots are free only after the second that a run
    // still has to start.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    house.model.may_answer.send_replace(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let late: Vec<_> = house.asked().into_iter().filter(|at| *at > answered_at + TimeDelta::seconds(1)).collect();
    assert!(late.is_empty(), "the pause was answered at {answered_at}, and runs started at {late:?}");
    assert!(house.asked().len() < RUNS, "there was nothing left to stop");

    house.ask(2, http::TestRequest::put().uri("/pause").set_json(json!({ "paused": false }))).await;
    let ended = house.until_all_succeeded().await;
    assert_eq!(ended.values().collect::<BTreeSet<_>>().len(), 1, "{ended:?}");
    assert_eq!((ended.len(), ended.values().next()), (RUNS, Some(&RunState::Success)));
    house.shutdown.cancel();
}
