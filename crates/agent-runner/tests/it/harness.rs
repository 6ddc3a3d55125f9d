//! A runner on a bus of its own, a mentor's model made by hand, and the dispatcher's end of the queues.

use std::sync::Arc;
use std::time::Duration;

use agent_runner::provider::Provider;
use agent_runner::{AgentRunner, Config, Dependencies, SessionKeyPair, generate_session_key};
use bus::{Bus, Consumer, Depth, Message, Queue, Subscription};
use chrono::{DateTime, TimeDelta, Utc};
use model::document::{self, Mentor};
use model::event::{Event, EventKind, RunCancel, RunStarted};
use model::id::{AgentId, MentorId, OrganisationKey, RunId};
use model::run::{Run, RunAnswer, RunRequest, Trigger};
use model::service::ServicesInvoked;
use model::wire::{Wire, decode_event};
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::{InternalConfig, SecretsConfig};
use service_kit::egress::Guard;
use service_kit::secrets::{KeyRing, Secret};
use service_kit::supervise::{SuperviseError, supervise};
use service_kit::traces::Traces;
use test_kit::{Backends, GatedBus};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stand_ins::{Model, Shaky};

/// No condition takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two sealing keys; the ring of a runner has the first unless a test says otherwise.
pub const KEY_1: &str = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
pub const KEY_2: &str = "k2:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

pub fn key_ring(keys: &str) -> KeyRing {
    KeyRing::parse(&SecretsConfig { keys: Secret::new(keys.to_owned()) }).unwrap()
}

/// Waits for what must come true.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until `condition` holds, looking again every few milliseconds: for what announces itself to nobody.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let until = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, until).await;
}

/// What runners share: the bus, the clock, the model that they ask.
pub struct World {
    pub bus: Arc<GatedBus<Shaky>>,
    pub clock: Clock,
    pub model: Arc<Model>,
    pub session_key: SessionKeyPair,
    /// Whom runners let mentors' owners call: this host, unless a test says otherwise.
    pub egress: Guard,
    answers: Mutex<Consumer>,
    backends: Backends,
}

impl World {
    /// Time stands still until a test moves it.
    pub async fn new() -> Self {
        let backends = Backends::of_environment();
        let bus = Arc::new(GatedBus { gate: Shaky::default(), inner: backends.bus().await });
        let answers = Mutex::new(bus.consume(Queue::CronDispatcherAnswers, 1_000).await.unwrap());
        let clock = Clock::manual("2026-11-21T10:00:00Z".parse().unwrap());
        let egress = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Self {
            bus,
            clock,
            model: Arc::default(),
            session_key: generate_session_key().unwrap(),
            egress,
            answers,
            backends,
        }
    }

    /// Closes the bus and opens it again, as a new process would.
    pub async fn reopen(self) -> Self {
        let Self { bus, clock, model, session_key, egress, answers, backends } = self;
        drop(answers);
        within("the bus is closed", bus.close()).await;
        let bus = Arc::new(GatedBus { gate: Shaky::default(), inner: backends.bus().await });
        let answers = Mutex::new(bus.consume(Queue::CronDispatcherAnswers, 1_000).await.unwrap());
        Self { bus, clock, model, session_key, egress, answers, backends }
    }

    pub async fn runner(&self) -> Runner {
        self.runner_with(|_| {}, key_ring(KEY_1)).await
    }

    pub async fn runner_with(&self, change: impl FnOnce(&mut Config), keys: KeyRing) -> Runner {
        let mut config = Config::default();
        config.sessions.key = self.session_key.private_pem.clone();
        change(&mut config);
        let readiness = Readiness::new();
        let dependencies = Dependencies {
            bus: Arc::clone(&self.bus) as Arc<dyn Bus>,
            clock: self.clock.clone(),
            readiness: readiness.clone(),
            internal: InternalConfig { key: Secret::new("the-internal-key-of-these-tests-0123456789".to_owned()) },
            keys,
            egress: self.egress.clone(),
            traces: Traces::default(),
            providers: vec![("model".to_owned(), Arc::clone(&self.model) as Arc<dyn Provider>)],
        };
        let runner = AgentRunner::open(config, dependencies).await.unwrap();
        let shutdown = CancellationToken::new();
        let roles = runner.roles(shutdown.clone());
        let process = tokio::spawn(supervise(roles, shutdown.clone(), PATIENCE));
        let runner = Runner { readiness, shutdown, process };
        runner.is_ready().await;
        runner
    }

    pub async fn request(&self, request: &RunRequest) {
        self.request_all(&[request]).await;
    }

    /// In one publish.
    pub async fn request_all(&self, requests: &[&RunRequest]) {
        let message =
            |request: &&RunRequest| Message::new(RunRequest::KIND, "test", self.clock.now(), request.encode());
        self.bus.inner.publish(requests.iter().map(message).collect()).await.unwrap();
    }

    pub async fn cancel(&self, ids: &[i64]) {
        self.say(ids, false).await;
    }

    /// What a dispatcher says of runs that are to be let go; `complete`: to a runner that has joined.
    pub async fn say(&self, ids: &[i64], complete: bool) {
        let cancel = RunCancel { run_ids: ids.iter().copied().map(RunId).collect(), complete };
        let message = Message::new(EventKind::RunCancel, "test", self.clock.now(), cancel.encode());
        self.bus.broadcast(message).await.unwrap();
    }

    /// The next thing that a runner says.
    pub async fn next(&self) -> Said {
        let mut answers = self.answers.lock().await;
        let batch = within("a runner says something", answers.next_batch(1, usize::MAX)).await.unwrap();
        let delivery = batch.into_iter().next().unwrap();
        let message = delivery.message.clone();
        delivery.ack().await.unwrap();
        match message.kind {
            EventKind::RunStarted => Said::Started(decode_event(message.kind, &message.body).unwrap()),
            _ => Said::Answered(decode_event(message.kind, &message.body).unwrap()),
        }
    }

    /// The next thing that a runner says, which is an answer.
    pub async fn answer(&self) -> RunAnswer {
        match self.next().await {
            Said::Answered(answer) => answer,
            Said::Started(started) => panic!("run {} was announced as started", started.run_id),
        }
    }

    /// The next answer, whether its run was announced as started or not.
    pub async fn end(&self) -> RunAnswer {
        loop {
            if let Said::Answered(answer) = self.next().await {
                return answer;
            }
        }
    }

    /// Awaits while time passes, `step_ms` every few milliseconds.
    pub async fn while_time_passes<T>(&self, step_ms: i64, future: impl Future<Output = T>) -> T {
        let passing = async {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.advance(step_ms);
            }
        };
        tokio::select! {
            done = future => done,
            () = passing => unreachable!("time never ends"),
        }
    }

    /// What the next run attempt did with services.
    pub async fn invoked(&self) -> ServicesInvoked {
        let mut consumer = self.bus.consume(Queue::ServiceRegistryInvocations, 1).await.unwrap();
        let batch = within("a runner tells of services", consumer.next_batch(1, usize::MAX)).await.unwrap();
        let delivery = batch.into_iter().next().unwrap();
        let message = delivery.message.clone();
        delivery.ack().await.unwrap();
        decode_event(message.kind, &message.body).unwrap()
    }

    /// Listens to broadcasts, as soon as a busy broker lets it.
    pub async fn subscribe(&self) -> Subscription {
        let listening = async {
            loop {
                if let Ok(listening) = self.bus.subscribe().await {
                    return listening;
                }
            }
        };
        within("somebody can listen", listening).await
    }

    pub async fn depth(&self) -> Depth {
        self.bus.depth(Queue::AgentRunnerRuns).await.unwrap()
    }

    /// What the queue of requests holds is `expected`, at once or soon: a broker gives back what was not settled only
    /// some time after it has seen a consumer go.
    pub async fn depth_becomes(&self, expected: Depth) {
        eventually(&format!("the queue holds {expected:?}"), || async { self.depth().await == expected }).await;
    }

    /// Every request is settled.
    pub async fn all_settled(&self) {
        eventually("every request is settled", || async { self.depth().await.is_empty() }).await;
    }

    pub fn advance(&self, by_ms: i64) {
        self.clock.advance(TimeDelta::milliseconds(by_ms));
    }
}

/// What a runner says of a run.
#[derive(Debug)]
pub enum Said {
    Started(RunStarted),
    Answered(RunAnswer),
}

/// A runner as a process of its own.
pub struct Runner {
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
    process: JoinHandle<Result<(), SuperviseError>>,
}

impl Runner {
    pub async fn is_ready(&self) {
        eventually("the runner is ready", || async { self.readiness.is_ready() }).await;
    }

    pub async fn is_not_ready(&self, condition: &str) {
        eventually("the runner is not ready", || async { self.readiness.unmet().contains_key(condition) }).await;
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        within("the runner stops", self.process).await.unwrap().unwrap();
    }

    /// Stops it as kill -9 would, as far as anybody else can tell.
    pub async fn crash(self) {
        self.process.abort();
        assert!(self.process.await.unwrap_err().is_cancelled());
    }
}

/// Run `id`, which asks the hand-made model `prompt`.
pub fn request(id: i64, prompt: &str) -> RunRequest {
    let moment: DateTime<Utc> = "2026-11-21T09:59:00Z".parse().unwrap();
    RunRequest {
        run: Run {
            id: RunId(id),
            organisation: OrganisationKey("acme".into()),
            agent_id: AgentId(7),
            trigger: Trigger::Schedule,
            fire_time: moment,
            nominal_time: moment,
            sequence: 1,
            run_attempt: 1,
            passed_over: 0,
        },
        mentor: Mentor {
            id: MentorId(3),
            unique_id: "5c9b3a52-6c0c-4d0a-8a39-3b0c2f5f6f11".into(),
            name: "Scout".into(),
            system_prompt: String::new(),
            provider: document::Provider { kind: "model".into(), ..document::Provider::default() },
            runs_in_flight_max: None,
            service_groups: Vec::new(),
        },
        prompt: prompt.into(),
        username: "admin@acme.example".into(),
        last_editor: "editor".into(),
        pathway: "papers".into(),
        parent_session_id: "session-1".into(),
        parent_mentor_id: Some(9),
        timeout: Duration::from_secs(600),
        announce_start: false,
    }
}

/// The same, asked of the built-in `echo`.
pub fn echo(id: i64, prompt: &str) -> RunRequest {
    let mut request = request(id, prompt);
    request.mentor.provider.kind = "echo".into();
    request
}
