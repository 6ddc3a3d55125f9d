//! A dispatcher with a clock that the test moves; the test plays the registry, the runners and the deliverer.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, test, web};
use bus::{Bus, Consumer, Message, Queue, Subscription};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use cron_dispatcher::{CronDispatcher, Dependencies, DispatcherConfig, ledger};
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};
use model::crontab::CrontabFields;
use model::document::{
    Agent, Document, Endpoint, Mentor, Organisation, Pause, Provider, Receiver, Schedule, Subject, next_version,
};
use model::event::{
    DocumentChanged, DocumentsHeld, Event, EventKind, HeldTick, RunStarted, RunsFinished, RunsHeld, RunsRecorded,
    TicksSkipped,
};
use model::id::{AgentId, MentorId, OrganisationKey, RunId};
use model::internal::{TickPage, TriggerRequest};
use model::run::{RunAnswer, RunReason, RunRecord, RunRequest, RunResult, RunState, ScheduleRecord, SkippedTick, Tick};
use model::wire::{Wire, decode_event};
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::{ConnectionUrl, DatabaseConfig};
use service_kit::supervise::supervise;
use service_kit::traces::Traces;
use test_kit::{Backends, Scans, until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what announces itself to nobody.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a second of a clock that is moved takes: long enough for a busy machine to do what is due in it.
pub(crate) const SECOND: Duration = Duration::from_millis(40);

/// The agent whose run shows that everything before it is done.
const PROBE: AgentId = AgentId(999_999);

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("RFC 3339")
}

pub(crate) struct House {
    _backends: Backends,
    database: DatabaseConfig,
    config: DispatcherConfig,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    dispatcher: CronDispatcher,
    running: Option<(JoinHandle<()>, CancellationToken)>,
    pub(crate) queues: Queues,
}

pub(crate) struct Queues {
    runs: Option<Consumer>,
    recorded: Consumer,
    finished: Consumer,
    pub(crate) held: Consumer,
}

impl House {
    /// A running dispatcher; the clock stands at `now`.
    pub(crate) async fn start(now: &str) -> Self {
        Self::with_config(now, DispatcherConfig::default()).await
    }

    pub(crate) async fn with_config(now: &str, config: DispatcherConfig) -> Self {
        Self::with_bus(now, config, |bus| bus).await
    }

    /// The dispatcher, but nobody else, has the bus that `wrap` makes.
    pub(crate) async fn with_bus(
        now: &str,
        config: DispatcherConfig,
        wrap: impl FnOnce(Arc<dyn Bus>) -> Arc<dyn Bus>,
    ) -> Self {
        let backends = Backends::of_environment();
        let url = ConnectionUrl::new(backends.database("dispatcher"));
        let database = DatabaseConfig { url, ..DatabaseConfig::default() };
        let bus = backends.bus().await;
        let clock = Clock::manual(at(now));
        let dispatcher = open(&database, &config, &wrap(Arc::clone(&bus)), &clock).await;
        let queues = Queues {
            runs: Some(bus.consume(Queue::AgentRunnerRuns, 10_000).await.expect("a consumer")),
            recorded: bus.consume(Queue::AgentRegistryRuns, 100).await.expect("a consumer"),
            finished: bus.consume(Queue::CallbackDelivererRuns, 100).await.expect("a consumer"),
            held: bus.consume(Queue::AgentRegistryDocumentsHeld, 100).await.expect("a consumer"),
        };
        let mut house = Self { _backends: backends, database, config, bus, clock, dispatcher, running: None, queues };
        house.resume();
        house
    }

    /// The dispatcher dies where it stands, and a new one opens what it left.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.crash().await;
        self.dispatcher = open(&self.database, &self.config, &self.bus, &self.clock).await;
        self.resume();
    }

    /// The same, with documents that the registry announced while it was down.
    pub(crate) async fn crash_and_restart_with(&mut self, documents: Vec<Document>) {
        self.publish(&DocumentChanged { documents }).await;
        self.crash_and_restart().await;
        take::<DocumentsHeld>(&mut self.queues.held).await;
        self.until_heard().await;
    }

    /// The dispatcher dies where it stands.
    pub(crate) async fn crash(&mut self) {
        if let Some((running, _)) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    fn resume(&mut self) {
        let shutdown = CancellationToken::new();
        let roles = self.dispatcher.roles(shutdown.clone());
        let stopped = shutdown.clone();
        let running = tokio::spawn(async move {
            supervise(roles, stopped, PATIENCE).await.expect("the dispatcher runs");
        });
        self.running = Some((running, shutdown));
    }

    pub(crate) async fn publish<E: Event>(&self, event: &E) {
        self.publish_bytes(E::KIND, event.encode()).await;
    }

    /// What another version would send.
    pub(crate) async fn publish_bytes(&self, kind: EventKind, body: Bytes) {
        let message = Message::new(kind, "test", self.clock.now(), body);
        self.bus.publish(vec![message]).await.expect("published");
    }

    /// Announces documents, and waits until the dispatcher says that it holds them. Returns what it said.
    pub(crate) async fn announce(&mut self, documents: Vec<Document>) -> DocumentsHeld {
        self.publish(&DocumentChanged { documents }).await;
        let held = take(&mut self.queues.held).await;
        self.until_heard().await;
        held
    }

    /// Waits until every announcement is acknowledged: a dispatcher that died before would hear of it again, and say
    /// again what it holds.
    async fn until_heard(&self) {
        let heard = async || {
            let depth = self.bus.depth(Queue::CronDispatcherDocuments).await.expect("a depth");
            depth.is_empty().then_some(())
        };
        until("every announcement is acknowledged", PATIENCE, heard).await;
    }

    /// An organisation with a mentor and these agents, held.
    pub(crate) async fn settle_in(&mut self, agents: Vec<Agent>) {
        let mut documents = vec![organisation("acme", self.version()), mentor("acme", self.version())];
        documents.extend(agents.into_iter().map(|agent| document("acme", agent)));
        self.announce(documents).await;
    }

    /// The version of an edit made now.
    pub(crate) fn version(&self) -> i64 {
        next_version(0, self.clock.now())
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    /// Waits for a run to be requested.
    pub(crate) async fn requested(&mut self) -> RunRequest {
        take(self.queues.runs.as_mut().expect("somebody takes requests")).await
    }

    /// Waits for so many runs to be requested.
    pub(crate) async fn requested_many(&mut self, count: usize) -> Vec<RunRequest> {
        let mut requests = Vec::with_capacity(count);
        while requests.len() < count {
            requests.push(self.requested().await);
        }
        requests
    }

    /// Nothing was requested up to now: everything that the dispatcher does at this moment of its clock is done, and
    /// the queue is empty.
    pub(crate) async fn assert_nothing_requested(&mut self) {
        self.settled().await;
        assert_eq!(self.waiting().await, 0, "a run was requested");
    }

    /// Waits until every tick up to this moment of the clock is settled: is a run, a reason, or waits for something.
    pub(crate) async fn until_fired(&self) {
        #[derive(QueryableByName)]
        struct Due {
            #[diesel(sql_type = BigInt)]
            schedules: i64,
        }
        let now = self.clock.now();
        let url = self.database.url.expose();
        let nothing_due = async || {
            let of =
                |moment: &str| format!("SELECT count(*) AS schedules FROM schedules WHERE next_fire_at <= {moment}");
            let due: Due = match url.strip_prefix("sqlite:") {
                Some(file) => {
                    let query = diesel::sql_query(of(&now.timestamp_micros().to_string()));
                    query.get_result(&mut open_sqlite(file)).expect("a count")
                }
                None => {
                    let query = diesel::sql_query(of(&format!("'{}'", now.to_rfc3339())));
                    query.get_result(&mut PgConnection::establish(url).expect("a connection")).expect("a count")
                }
            };
            (due.schedules == 0).then_some(())
        };
        until("nothing is due any more", PATIENCE, nothing_due).await;
    }

    /// Waits until whatever is due at this moment of the clock was done: a run triggered after it has been requested.
    async fn settled(&mut self) {
        self.until_fired().await;
        let probe = agent(PROBE.0, "0", "0", self.version());
        let schedule = Schedule { enabled: false, ..probe.schedule };
        let probe = Agent { schedule, mentor_id: MentorId(PROBE.0), endpoint: None, ..probe };
        let id = probe.id;
        let mut documents =
            vec![organisation("probe", self.version()), mentor("probe", self.version()), document("probe", probe)];
        if let Subject::Mentor(mentor) = &mut documents[1].subject {
            mentor.id = MentorId(PROBE.0);
        }
        let asked = TriggerRequest {
            documents,
            agent_id: id,
            prompt: None,
            nominal_time: None,
            idempotency_key: String::new(),
        };
        let record = self.trigger(&asked).await.expect("a probe");
        let request = self.requested().await;
        assert_eq!(request.run.id, record.run.id, "a run was requested before the probe: {request:?}");
        self.answer(&request, "probed").await;
        self.reached(record.run.id, RunState::Success).await;
    }

    pub(crate) async fn answer(&self, request: &RunRequest, output: &str) {
        let result = RunResult { output: output.into(), log: format!("asked\n{output}\n"), ..RunResult::default() };
        self.answer_with(request, result).await;
    }

    pub(crate) async fn fail(&self, request: &RunRequest, reason: RunReason) {
        let result = RunResult { reason: Some(reason), log: "failed\n".into(), ..RunResult::default() };
        self.answer_with(request, result).await;
    }

    /// Answers these runs all at once, each with every one of these outputs in turn.
    pub(crate) async fn answer_together(&self, requests: &[RunRequest], outputs: &[&str]) {
        let answers = requests.iter().flat_map(|request| outputs.iter().map(move |output| (request, *output)));
        let messages = answers.map(|(request, output)| {
            let result = RunResult { output: output.into(), ..RunResult::default() };
            Message::new(RunAnswer::KIND, "test", self.clock.now(), self.answer_of(request, result).encode())
        });
        self.bus.publish(messages.collect()).await.expect("published");
    }

    async fn answer_with(&self, request: &RunRequest, result: RunResult) {
        self.publish(&self.answer_of(request, result)).await;
    }

    fn answer_of(&self, request: &RunRequest, result: RunResult) -> RunAnswer {
        let (run, now) = (&request.run, self.clock.now());
        RunAnswer { run_id: run.id, run_attempt: run.run_attempt, started_at: now, ended_at: now, result }
    }

    pub(crate) async fn started(&self, request: &RunRequest) {
        let run = &request.run;
        let started_at = self.clock.now();
        self.publish(&RunStarted { run_id: run.id, run_attempt: run.run_attempt, started_at }).await;
    }

    /// Waits for runs that the registry is told of.
    pub(crate) async fn recorded(&mut self) -> Vec<RunRecord> {
        loop {
            let mut runs = take::<RunsRecorded>(&mut self.queues.recorded).await.runs;
            runs.retain(|record| record.run.agent_id != PROBE);
            if !runs.is_empty() {
                return runs;
            }
        }
    }

    /// Waits until the registry is told where schedules stand.
    pub(crate) async fn schedules_recorded(&mut self) -> Vec<ScheduleRecord> {
        loop {
            let schedules = take::<RunsRecorded>(&mut self.queues.recorded).await.schedules;
            if !schedules.is_empty() {
                return schedules;
            }
        }
    }

    /// Moves the clock, a second at a time, until the registry is told where schedules stand.
    pub(crate) async fn until_schedules_recorded(&mut self) -> Vec<ScheduleRecord> {
        let clock = self.clock.clone();
        tokio::select! {
            schedules = self.schedules_recorded() => schedules,
            () = tick_on(&clock) => unreachable!("the clock goes on for ever"),
        }
    }

    /// Waits for results that the deliverer is given.
    pub(crate) async fn finished(&mut self) -> Vec<RunRecord> {
        take::<RunsFinished>(&mut self.queues.finished).await.runs
    }

    /// Waits for skipped ticks that the deliverer is told of.
    pub(crate) async fn skipped(&mut self) -> Vec<SkippedTick> {
        take::<TicksSkipped>(&mut self.queues.finished).await.ticks
    }

    /// Moves the clock, a second at a time, until skipped ticks come.
    pub(crate) async fn until_skipped(&mut self) -> Vec<SkippedTick> {
        let (clock, queue) = (self.clock.clone(), &mut self.queues.finished);
        tokio::select! {
            skipped = take::<TicksSkipped>(queue) => skipped.ticks,
            () = tick_on(&clock) => unreachable!("the clock goes on for ever"),
        }
    }

    /// The deliverer holds a skipped tick.
    pub(crate) async fn hold_tick(&self, tick: &SkippedTick) {
        let ticks = vec![HeldTick { agent_id: tick.agent_id, fire_time: tick.fire_time }];
        self.publish(&RunsHeld { receiver: Receiver::CallbackDeliverer, run_ids: Vec::new(), ticks }).await;
    }

    /// Moves the clock, a second at a time, until results come.
    pub(crate) async fn until_finished(&mut self) -> Vec<RunRecord> {
        let (clock, queue) = (self.clock.clone(), &mut self.queues.finished);
        tokio::select! {
            finished = take::<RunsFinished>(queue) => finished.runs,
            () = tick_on(&clock) => unreachable!("the clock goes on for ever"),
        }
    }

    /// Moves the clock, a second at a time, until a run is requested.
    pub(crate) async fn until_requested(&mut self) -> RunRequest {
        let (clock, queue) = (self.clock.clone(), self.queues.runs.as_mut().expect("somebody takes requests"));
        tokio::select! {
            request = take(queue) => request,
            () = tick_on(&clock) => unreachable!("the clock goes on for ever"),
        }
    }

    /// The same, until it is this attempt of its run that is requested: on a machine that is slower than the clock an
    /// earlier one may be taken for lost, and come again.
    pub(crate) async fn until_attempt(&mut self, run_attempt: u32) -> RunRequest {
        loop {
            let request = self.until_requested().await;
            if request.run.run_attempt == run_attempt {
                return request;
            }
        }
    }

    /// From now on nobody takes requests: a consumer may have taken some before it is asked for them.
    pub(crate) fn leave_requests(&mut self) {
        self.queues.runs = None;
    }

    /// From now on each request is taken, and nobody hears of it again.
    pub(crate) fn lose_requests(&mut self) {
        let mut runs = self.queues.runs.take().expect("somebody takes requests");
        tokio::spawn(async move {
            while let Some(batch) = runs.next_batch(1, usize::MAX).await {
                for delivery in batch {
                    delivery.ack().await.expect("acknowledged");
                }
            }
        });
    }

    /// Waits for a run to be requested, and puts the request off as a runner does that lacks its key.
    pub(crate) async fn put_off_requested(&mut self) {
        let runs = self.queues.runs.as_mut().expect("somebody takes requests");
        let batch = tokio::time::timeout(PATIENCE, runs.next_batch(1, usize::MAX)).await.expect("a request came");
        let delivery = batch.expect("an open bus").remove(0);
        delivery.put_off(Duration::from_secs(60 * 60)).await.expect("put off");
    }

    /// Waits until so many requests wait for a runner.
    pub(crate) async fn until_waiting(&self, count: u64) {
        let waiting = async {
            while self.waiting().await != count {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("so many requests wait");
    }

    /// How many requests wait: some of them the consumer of this test may have in hand already.
    async fn waiting(&self) -> u64 {
        let depth = self.bus.depth(Queue::AgentRunnerRuns).await.expect("a depth");
        depth.ready + depth.unacknowledged
    }

    /// Listens to broadcasts, as soon as a busy broker lets it.
    pub(crate) async fn subscribe(&self) -> Subscription {
        until("somebody can listen", PATIENCE, async || self.bus.subscribe().await.ok()).await
    }

    /// Lets the watch look: whoever sleeps on the clock is awake, and has had its turn.
    pub(crate) async fn look(&self) {
        for _ in 0..20 {
            self.run(RunId(0)).await;
        }
    }

    /// The window has no place left: what is queued stays there.
    pub(crate) async fn assert_window_is_full(&self) {
        self.look().await;
        assert_eq!(self.waiting().await, 0, "beyond the window");
    }

    /// Damages what the dispatcher holds of an agent, as a failing disk might.
    pub(crate) fn damage(&self, agent_id: i64) {
        self.execute(&format!("UPDATE documents SET body = 'damaged' WHERE kind = 'agent' AND key = '{agent_id}'"));
    }

    /// Does something to the dispatcher's database that no dispatcher does.
    pub(crate) fn execute(&self, statement: &str) {
        let url = self.database.url.expose();
        let done = match url.strip_prefix("sqlite:") {
            Some(file) => open_sqlite(file).batch_execute(statement),
            None => PgConnection::establish(url).expect("a connection").batch_execute(statement),
        };
        done.expect("the statement is executed");
    }

    /// A connection of the test's own; none to SQLite, where whoever writes is alone.
    pub(crate) fn postgres(&self) -> Option<PgConnection> {
        let url = Some(self.database.url.expose()).filter(|url| !url.starts_with("sqlite:"))?;
        Some(PgConnection::establish(url).expect("a connection"))
    }

    /// How often these tables were read up to now.
    pub(crate) fn scans(&self, tables: &[&str]) -> Option<Vec<Scans>> {
        Scans::so_far(self.database.url.expose(), tables)
    }

    /// The end of it: that they were read since, and by index alone.
    pub(crate) async fn assert_by_index(mut self, before: Option<Vec<Scans>>) {
        self.crash().await;
        let Self { _backends: backends, database, dispatcher, .. } = self;
        drop(dispatcher);
        Scans::assert_by_index(before, database.url.expose()).await;
        drop(backends);
    }

    /// What the ledger says.
    pub(crate) async fn ledger(&self) -> ledger::Report {
        ledger::verify(&self.database, 90, self.clock.now()).await.expect("a report")
    }

    pub(crate) async fn hold(&self, receiver: Receiver, run_ids: Vec<RunId>) {
        self.publish(&RunsHeld { receiver, run_ids, ticks: Vec::new() }).await;
    }

    /// Asks over internal HTTP; None for 404.
    async fn ask(&self, request: test::TestRequest) -> Option<web::Bytes> {
        let app = test::init_service(App::new().configure(self.dispatcher.internal_routes())).await;
        let response = test::call_service(&app, request.to_request()).await;
        if response.status() == 404 {
            return None;
        }
        assert!(response.status().is_success(), "{}", response.status());
        Some(test::read_body(response).await)
    }

    pub(crate) async fn trigger(&self, asked: &TriggerRequest) -> Option<RunRecord> {
        let body = self.ask(test::TestRequest::post().uri("/runs").set_payload(asked.encode())).await?;
        Some(RunRecord::decode(&body).expect("a record"))
    }

    /// How the dispatcher answers who wants this agent to run now.
    pub(crate) async fn trigger_status(&self, agent_id: AgentId) -> u16 {
        let (documents, prompt, nominal_time) = (Vec::new(), None, None);
        let asked = TriggerRequest { documents, agent_id, prompt, nominal_time, idempotency_key: String::new() };
        let app = test::init_service(App::new().configure(self.dispatcher.internal_routes())).await;
        let request = test::TestRequest::post().uri("/runs").set_payload(asked.encode());
        test::call_service(&app, request.to_request()).await.status().as_u16()
    }

    pub(crate) async fn run(&self, id: RunId) -> Option<RunRecord> {
        let body = self.ask(test::TestRequest::get().uri(&format!("/runs/{id}"))).await?;
        Some(RunRecord::decode(&body).expect("a record"))
    }

    /// Ends a run, as the registry asks for it.
    pub(crate) async fn cancel(&self, id: RunId) -> Option<RunRecord> {
        let body = self.ask(test::TestRequest::post().uri(&format!("/runs/{id}/cancel"))).await?;
        Some(RunRecord::decode(&body).expect("a record"))
    }

    /// Has documents applied at once, as the registry does for a pause.
    pub(crate) async fn apply(&self, documents: Vec<Document>) -> DocumentsHeld {
        let body = DocumentChanged { documents }.encode();
        let answer = self.ask(test::TestRequest::post().uri("/documents").set_payload(body)).await;
        DocumentsHeld::decode(&answer.expect("an answer")).expect("documents held")
    }

    /// Pauses or resumes everything. Returns what is said of it.
    pub(crate) async fn pause_everything(&self, asked: serde_json::Value) -> serde_json::Value {
        let answer = self.ask(test::TestRequest::put().uri("/pause").set_json(asked)).await.expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// Whether everything is paused.
    pub(crate) async fn paused(&self) -> serde_json::Value {
        let answer = self.ask(test::TestRequest::get().uri("/pause")).await.expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// Every tick up to now has one run or one reason.
    pub(crate) async fn assert_ledger_is_clean(&self) {
        let report = self.ledger().await;
        assert!(report.is_clean(), "{report:#?}");
    }

    /// The ticks of an agent, newest first.
    pub(crate) async fn ticks(&self, agent_id: i64) -> Vec<Tick> {
        self.some_ticks(agent_id, "").await
    }

    /// Some of them, as a query says.
    pub(crate) async fn some_ticks(&self, agent_id: i64, query: &str) -> Vec<Tick> {
        let uri = format!("/agents/{agent_id}/ticks?page_size=100{query}");
        let body = self.ask(test::TestRequest::get().uri(&uri)).await.expect("a page");
        TickPage::decode(&body).expect("a page").ticks
    }

    /// Waits until the dispatcher has forgotten the bytes of a run.
    pub(crate) async fn forgotten(&self, id: RunId) {
        let forgotten = async {
            while self.run(id).await.is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, forgotten).await.expect("the run's bytes are forgotten");
    }

    /// Waits until the dispatcher shows a run in some state.
    pub(crate) async fn reached(&self, id: RunId, state: RunState) {
        let reached = async {
            while self.run(id).await.is_none_or(|record| record.state != state) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the run reaches the state");
    }
}

/// Moves the clock for ever, a second at a time, letting others act in between.
async fn tick_on(clock: &Clock) {
    loop {
        clock.advance(TimeDelta::seconds(1));
        tokio::time::sleep(SECOND).await;
    }
}

/// A connection of the test's own, which waits for whoever writes.
fn open_sqlite(file: &str) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(file).expect("a connection");
    connection.batch_execute("PRAGMA busy_timeout = 60000").expect("a time-out");
    connection
}

async fn open(
    database: &DatabaseConfig,
    config: &DispatcherConfig,
    bus: &Arc<dyn Bus>,
    clock: &Clock,
) -> CronDispatcher {
    let dependencies = Dependencies {
        database: database.clone(),
        bus: Arc::clone(bus),
        clock: clock.clone(),
        readiness: Readiness::new(),
        traces: Traces::default(),
    };
    CronDispatcher::open(config.clone(), dependencies).await.expect("a dispatcher")
}

/// Takes the next message of a queue for good.
pub(crate) async fn take<E: Event>(consumer: &mut Consumer) -> E {
    let batch = tokio::time::timeout(PATIENCE, consumer.next_batch(1, usize::MAX)).await;
    let delivery = batch.unwrap_or_else(|_| panic!("no {} came", E::KIND)).expect("an open bus").remove(0);
    let event = decode_event(delivery.message.kind, &delivery.message.body).expect("an event");
    delivery.ack().await.expect("acknowledged");
    event
}

pub(crate) fn organisation(key: &str, version: i64) -> Document {
    let settings = Organisation::default();
    Document { organisation: OrganisationKey(key.into()), version, subject: Subject::Organisation(settings) }
}

pub(crate) fn mentor(organisation: &str, version: i64) -> Document {
    let mentor = Mentor {
        id: MentorId(1),
        unique_id: "1c1c1c1c-0000-4000-8000-000000000001".into(),
        name: "Echo".into(),
        system_prompt: String::new(),
        provider: Provider { kind: "echo".into(), ..Provider::default() },
        runs_in_flight_max: None,
        service_groups: Vec::new(),
    };
    Document { organisation: OrganisationKey(organisation.into()), version, subject: Subject::Mentor(mentor) }
}

/// An agent of mentor 1 with a callback, made in `version`.
pub(crate) fn agent(id: i64, minute: &str, hour: &str, version: i64) -> Agent {
    let crontab = CrontabFields { minute: minute.into(), hour: hour.into(), ..CrontabFields::default() };
    Agent {
        id: AgentId(id),
        mentor_id: MentorId(1),
        title: format!("Agent {id}"),
        prompt: "what is new?".into(),
        username: "admin".into(),
        last_editor: "admin".into(),
        schedule: Schedule { timing_version: version, crontab, ..Schedule::default() },
        endpoint: Some(Endpoint::new("https://receiver.example/".into(), Vec::new())),
        pathway: String::new(),
        parent_session_id: String::new(),
        parent_mentor_id: None,
        previous: None,
        pause: Pause::default(),
        runs_in_flight_max: None,
    }
}

/// Its document, in the version of its timing.
pub(crate) fn document(organisation: &str, agent: Agent) -> Document {
    let version = agent.schedule.timing_version;
    versioned(organisation, agent, version)
}

/// Its document in a version of its own: an edit that leaves timing alone.
pub(crate) fn versioned(organisation: &str, agent: Agent, version: i64) -> Document {
    Document { organisation: OrganisationKey(organisation.into()), version, subject: Subject::Agent(Box::new(agent)) }
}
