//! A registry on a database of its own, the embedded bus and a free port, and a client for it.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Consumer, Message, Queue};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl};
use model::document::{Document, HeldDocument, Receiver};
use model::event::{DocumentChanged, DocumentsHeld, Event, RunsRecorded};
use model::run::{RunRecord, ScheduleRecord};
use model::wire::Wire;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use service_kit::admin::Readiness;
use service_kit::auth::{Caller, Role, issue_token};
use service_kit::clock::Clock;
use service_kit::config::{AuthConfig, ConnectionUrl, DatabaseConfig, InternalConfig, SecretsConfig};
use service_kit::egress::Guard;
use service_kit::http::{self, Listener, ServerOptions};
use service_kit::secrets::{KeyRing, Secret};
use service_kit::supervise::supervise;
use test_kit::Backends;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use agent_registry::{AgentRegistry, Config, Dependencies};

use crate::deliverer_peer::DelivererPeer;
use crate::dispatcher_peer::DispatcherPeer;

pub(crate) const ORG: &str = "acme";
pub(crate) const USER: &str = "admin@acme.example";
/// As by default.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a condition is awaited before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A Saturday's noon.
pub(crate) fn start() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// What outlives a registry: its database, its clock, the bus and the dispatcher.
pub(crate) struct World {
    _backends: Backends,
    database: ConnectionUrl,
    pub(crate) clock: Clock,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) dispatcher: DispatcherPeer,
    pub(crate) deliverer: DelivererPeer,
    pub(crate) config: Config,
    pub(crate) auth: AuthConfig,
    pub(crate) internal: InternalConfig,
    pub(crate) keys: KeyRing,
}

impl World {
    pub(crate) async fn new() -> Self {
        let backends = Backends::of_environment();
        let clock = Clock::manual(start());
        let internal = InternalConfig { key: Secret::new("the-internal-key-of-these-tests-0123456789".into()) };
        let dispatcher = DispatcherPeer::start(&internal, clock.clone()).await;
        let deliverer = DelivererPeer::start(&internal, clock.clone()).await;
        let keys = SecretsConfig { keys: Secret::new("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".into()) };
        Self {
            database: ConnectionUrl::new(backends.database("registry")),
            config: Config {
                cron_dispatcher_url: dispatcher.url(),
                callback_deliverer_url: deliverer.url(),
                public_url: None,
                session_jwks: r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"s1","x":"abc"}]}"#.into(),
                provider_names: ["openai".to_owned()].into(),
                default_provider: None,
                ..Config::default()
            },
            auth: AuthConfig {
                jwt_secret: Secret::new("the-public-jwt-secret-of-these-tests-0123456789".into()),
                audience: Some("carillon".into()),
                issuer: Some("tests".into()),
                ..AuthConfig::default()
            },
            keys: KeyRing::parse(&keys).unwrap(),
            bus: backends.bus().await,
            _backends: backends,
            clock,
            dispatcher,
            deliverer,
            internal,
        }
    }

    fn dependencies(&self, readiness: &Readiness) -> Dependencies {
        Dependencies {
            database: DatabaseConfig { url: self.database.clone(), ..DatabaseConfig::default() },
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            readiness: readiness.clone(),
            auth: self.auth.clone(),
            internal: self.internal.clone(),
            keys: self.keys.clone(),
            egress: Guard::new(vec!["127.0.0.0/8".parse().unwrap()]),
        }
    }

    /// Opens the registry on what is there, with its server and its roles.
    pub(crate) async fn open(&self) -> App<'_> {
        self.open_with(true).await
    }

    /// Opens the registry; without roles, nothing is announced or consumed.
    pub(crate) async fn open_with(&self, roles: bool) -> App<'_> {
        let readiness = Readiness::new();
        let registry = AgentRegistry::open(self.config.clone(), self.dependencies(&readiness)).await.unwrap();
        let shutdown = CancellationToken::new();
        let listener = Listener::bind("http.listen", ([127, 0, 0, 1], 0).into()).unwrap();
        let base = format!("http://{}", listener.address());
        let options = ServerOptions { name: "agent-registry", body_bytes_max: BODY_BYTES_MAX, ..Default::default() };
        let routes = registry.routes();
        let stop = shutdown.clone();
        let mut tasks = vec![tokio::spawn(async move { http::serve(listener, options, stop, routes).await.unwrap() })];
        if roles {
            let running = supervise(registry.roles(shutdown.clone()), shutdown.clone(), PATIENCE);
            tasks.push(tokio::spawn(async move { running.await.unwrap() }));
        }
        App { world: self, base, http: client(), shutdown, tasks, readiness }
    }

    /// Where its database is, if that is PostgreSQL.
    pub(crate) fn postgres(&self) -> Option<&str> {
        Some(self.database.expose()).filter(|url| !url.starts_with("sqlite:"))
    }

    /// How many rows a table has: for what no door shows, since nobody can see it any more.
    pub(crate) fn rows(&self, table: &str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Count {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            rows: i64,
        }
        let query = diesel::sql_query(format!("SELECT count(*) AS rows FROM {table}"));
        let url = self.database.expose();
        let count: Count = match url.strip_prefix("sqlite:") {
            Some(file) => query.get_result(&mut open_sqlite(file)).unwrap(),
            None => query.get_result(&mut diesel::PgConnection::establish(url).unwrap()).unwrap(),
        };
        count.rows
    }

    /// Changes what no door can change so: in the words of one database, and of the other.
    pub(crate) fn execute(&self, postgres: &str, sqlite: &str) {
        let url = self.database.expose();
        match url.strip_prefix("sqlite:") {
            Some(file) => open_sqlite(file).batch_execute(sqlite).unwrap(),
            None => diesel::PgConnection::establish(url).unwrap().batch_execute(postgres).unwrap(),
        }
    }

    /// Begins what these say, in the words of one database and of the other; it ends when what is returned is dropped.
    pub(crate) fn keep_open(&self, postgres: &str, sqlite: &str) -> Box<dyn std::any::Any> {
        let url = self.database.expose();
        match url.strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = open_sqlite(file);
                connection.batch_execute(sqlite).unwrap();
                Box::new(connection)
            }
            None => {
                let mut connection = diesel::PgConnection::establish(url).unwrap();
                connection.batch_execute(postgres).unwrap();
                Box::new(connection)
            }
        }
    }

    /// What a column of a table holds: for what no door shows.
    pub(crate) fn column(&self, table: &str, column: &str) -> Vec<Vec<u8>> {
        #[derive(diesel::QueryableByName)]
        struct Cell {
            #[diesel(sql_type = diesel::sql_types::Binary)]
            cell: Vec<u8>,
        }
        let url = self.database.expose();
        let cells: Vec<Cell> = match url.strip_prefix("sqlite:") {
            Some(file) => {
                let query = diesel::sql_query(format!("SELECT CAST({column} AS BLOB) AS cell FROM {table}"));
                query.load(&mut open_sqlite(file)).unwrap()
            }
            None => {
                let is_binary = ["key_hash", "body"].contains(&column);
                let cell = if is_binary { column.to_owned() } else { format!("convert_to({column}, 'UTF8')") };
                let query = diesel::sql_query(format!("SELECT {cell} AS cell FROM {table}"));
                query.load(&mut diesel::PgConnection::establish(url).unwrap()).unwrap()
            }
        };
        cells.into_iter().map(|cell| cell.cell).collect()
    }

    /// Waits until a table has so many rows.
    pub(crate) async fn until_rows(&self, table: &str, rows: i64) {
        let found = tokio::time::timeout(PATIENCE, async {
            while self.rows(table) != rows {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(found.await.is_ok(), "{table} has {} rows, not {rows}", self.rows(table));
    }

    /// A token, good for an hour.
    pub(crate) fn token(&self, username: &str, organisation: Option<&str>, role: Role) -> String {
        let caller = Caller { username: username.into(), organisation: organisation.map(str::to_owned), role };
        issue_token(&self.auth, &caller, Duration::from_secs(3600), self.clock.now()).unwrap()
    }

    pub(crate) fn admin_token(&self) -> String {
        self.token(USER, Some(ORG), Role::TenantAdmin)
    }

    /// Says that runs are recorded, as the dispatcher does.
    pub(crate) async fn record(&self, runs: Vec<RunRecord>) {
        self.say_recorded(RunsRecorded { runs, schedules: Vec::new() }).await;
    }

    /// Says where a schedule stands, as the dispatcher does.
    pub(crate) async fn stand(&self, schedule: ScheduleRecord) {
        self.say_recorded(RunsRecorded { runs: Vec::new(), schedules: vec![schedule] }).await;
    }

    async fn say_recorded(&self, event: RunsRecorded) {
        let message = Message::new(RunsRecorded::KIND, "cron-dispatcher", self.clock.now(), event.encode());
        self.bus.publish(vec![message]).await.unwrap();
    }

    /// Says that a receiver holds a document in this version.
    pub(crate) async fn hold(&self, receiver: Receiver, document: &Document, next: Option<DateTime<Utc>>) {
        let held = HeldDocument {
            kind: document.kind(),
            key: document.key(),
            version: document.version,
            next_fire_time: next,
        };
        self.say_held(receiver, vec![held]).await;
    }

    /// Says what a receiver holds.
    pub(crate) async fn say_held(&self, receiver: Receiver, documents: Vec<HeldDocument>) {
        let event = DocumentsHeld { receiver, documents, replanned: Vec::new() };
        let message = Message::new(DocumentsHeld::KIND, receiver.as_str(), self.clock.now(), event.encode());
        self.bus.publish(vec![message]).await.unwrap();
    }

    pub(crate) async fn consume(&self, queue: Queue) -> Consumer {
        self.bus.consume(queue, 1_000).await.unwrap()
    }
}

/// A connection of the test's own, which waits for whoever writes.
fn open_sqlite(file: &str) -> diesel::SqliteConnection {
    let mut connection = diesel::SqliteConnection::establish(file).unwrap();
    connection.batch_execute("PRAGMA busy_timeout = 60000").unwrap();
    connection
}

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(PATIENCE).build().unwrap()
}

/// Takes the documents that wait in a queue; at least one is awaited.
pub(crate) async fn documents_in(consumer: &mut Consumer) -> Vec<Document> {
    let deliveries = tokio::time::timeout(PATIENCE, consumer.next_batch(100, usize::MAX)).await;
    let mut documents = Vec::new();
    for delivery in deliveries.expect("no document was announced").expect("the bus was closed") {
        documents.extend(DocumentChanged::decode(&delivery.message.body).unwrap().documents);
        delivery.ack().await.unwrap();
    }
    documents
}

/// Takes documents until one of them is as wanted.
pub(crate) async fn document_where(consumer: &mut Consumer, wanted: impl Fn(&Document) -> bool) -> Document {
    loop {
        if let Some(document) = documents_in(consumer).await.into_iter().find(&wanted) {
            return document;
        }
    }
}

/// A registry at work.
pub(crate) struct App<'w> {
    pub(crate) world: &'w World,
    pub(crate) base: String,
    pub(crate) http: Client,
    pub(crate) readiness: Readiness,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }
}

/// The path of something in the test's own place.
pub(crate) fn path(rest: &str) -> String {
    path_in(ORG, USER, rest)
}

pub(crate) fn path_in(org: &str, user: &str, rest: &str) -> String {
    format!("/api/ai-mentor/orgs/{org}/users/{user}/{rest}")
}

impl App<'_> {
    /// Stops in good order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }

    /// Sends a request with these headers and nothing else.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// Sends JSON as the organisation's administrator.
    pub(crate) async fn call(&self, method: &str, rest: &str, body: Option<Value>) -> Answer {
        let authorization = format!("Bearer {}", self.world.admin_token());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.send(method, &path(rest), &headers, body).await
    }

    /// Sends JSON to a whole path with this `Authorization`.
    pub(crate) async fn call_as(&self, authorization: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        self.send(method, path, &headers, body.map(|body| body.to_string().into_bytes()).unwrap_or_default()).await
    }

    /// The organisation's settings, or what came of changing them.
    pub(crate) async fn organisation(&self, change: Option<Value>) -> Answer {
        let method = if change.is_some() { "PATCH" } else { "GET" };
        let token = format!("Token {}", self.world.admin_token());
        self.call_as(&token, method, &format!("/api/core/orgs/{ORG}/"), change).await
    }

    /// A new API key of whoever has this token, as it is sent.
    pub(crate) async fn api_key(&self, token: &str, organisation: &str, name: &str, more: Value) -> String {
        let mut body = json!({ "name": name, "platform_key": organisation });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let place = "/api/core/platform/api-tokens/";
        let answer = self.call_as(&format!("Bearer {token}"), "POST", place, Some(body)).await.ok(201);
        format!("Api-Token {}", answer["key"].as_str().unwrap())
    }

    pub(crate) async fn get(&self, rest: &str) -> Answer {
        self.call("GET", rest, None).await
    }

    pub(crate) async fn post(&self, rest: &str, body: Value) -> Answer {
        self.call("POST", rest, Some(body)).await
    }

    pub(crate) async fn patch(&self, rest: &str, body: Value) -> Answer {
        self.call("PATCH", rest, Some(body)).await
    }

    pub(crate) async fn put(&self, rest: &str, body: Value) -> Answer {
        self.call("PUT", rest, Some(body)).await
    }

    pub(crate) async fn delete(&self, rest: &str) -> Answer {
        self.call("DELETE", rest, None).await
    }

    /// A mentor that can be asked.
    pub(crate) async fn mentor(&self) -> Value {
        self.post("", json!({ "name": "Ada", "provider": { "kind": "echo" } })).await.ok(201)
    }

    /// An agent of that mentor that fires every minute, with these fields beside.
    pub(crate) async fn agent(&self, mentor: &Value, more: Value) -> Value {
        let mut body = json!({ "mentor": mentor["unique_id"], "title": "Daily", "task": { "crontab": {} } });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.post("periodic-agents/", body).await.ok(201)
    }

    /// Asks again and again until the answer is as wanted.
    pub(crate) async fn eventually(&self, rest: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(rest).await.body;
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let found = found.await;
        assert!(found.is_ok(), "{rest} never came to be as wanted; it is {last}");
        last
    }

    pub(crate) async fn advance(&self, seconds: i64) {
        self.world.clock.advance(TimeDelta::seconds(seconds));
    }
}
