//! A registry on a database of its own and a free port, and a client for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::{Bus, Message};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use model::event::{Event, EventKind};
use model::service::{CallableServices, CallableServicesRequest, ServicesInvoked};
use model::wire::Wire;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use service_kit::admin::{self, InternalRoutes, Readiness};
use service_kit::auth::{Caller, InternalSigner, InternalVerifier, Role, issue_token};
use service_kit::clock::Clock;
use service_kit::config::{AuthConfig, ConnectionUrl, DatabaseConfig, InternalConfig};
use service_kit::egress::Guard;
use service_kit::http::{self, Listener, ServerOptions};
use service_kit::secrets::Secret;
use service_kit::supervise::supervise;
use service_registry::{Config, Dependencies, ServiceRegistry};
use test_kit::Backends;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long an answer is awaited before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const AGENT: &str = "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy";
pub(crate) const OTHER_AGENT: &str = "agent1q0vmxjv06dwdlppuvspmfyff4ys2t4mdndpa09gulpsuq90n22xqy8k89l8";
pub(crate) const PROTOCOL: &str = "proto:05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a";
pub(crate) const MODEL: &str = "model:4ec922f7f18419cf7c6742f96eb4543a7ed5c131af077ca2b267607f65e62eb2";

/// When the documentation's sample was made.
pub(crate) fn start() -> DateTime<Utc> {
    "2023-10-22T21:28:46.987654Z".parse().unwrap()
}

/// The documentation's service.
pub(crate) fn service() -> Value {
    json!({
        "agent": AGENT,
        "name": "Stock price service",
        "description": "Retrieves the stock price of a share.",
        "protocolDigest": PROTOCOL,
        "modelDigest": MODEL,
        "modelName": "StockPrice/StocksProtocol",
        "fields": [{ "name": "symbol", "required": true, "field_type": "string", "description": "As AAPL." }],
        "taskType": "task",
    })
}

/// The documentation's service with some of its fields set.
pub(crate) fn service_with(fields: Value) -> Value {
    let mut service = service();
    for (name, value) in fields.as_object().unwrap() {
        service[name] = value.clone();
    }
    service
}

/// What outlives a registry: its database and its clock.
pub(crate) struct World {
    backends: Backends,
    url: String,
    pub(crate) clock: Clock,
    pub(crate) auth: AuthConfig,
    pub(crate) config: Config,
    /// Where services may be called.
    pub(crate) egress: Guard,
    /// What runners sign with.
    session_key: EncodingKey,
    session_jwks: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let backends = Backends::of_environment();
        let (session_key, session_jwks) = session_key();
        Self {
            url: backends.database("service-registry"),
            backends,
            clock: Clock::manual(start()),
            auth: AuthConfig {
                jwt_secret: Secret::new("the-public-jwt-secret-of-these-tests-0123456789".into()),
                ..AuthConfig::default()
            },
            config: Config::default(),
            egress: Guard::new(vec![]),
            session_key,
            session_jwks,
        }
    }

    /// Opens the registry with its doors alone: it consumes nothing and probes nothing.
    pub(crate) async fn open(&self) -> App<'_> {
        self.open_on(self.unused_bus().await, false).await
    }

    /// Opens the whole of it.
    pub(crate) async fn open_at_work(&self) -> App<'_> {
        let bus = self.backends.bus().await;
        self.open_on(bus, true).await
    }

    /// A second replica of one that is at work; what comes over the bus is for the first.
    pub(crate) async fn open_beside(&self) -> App<'_> {
        self.open_on(self.unused_bus().await, true).await
    }

    /// A bus that nobody else has, of a file of its own: the lock of one that was closed is for a moment still with a
    /// process that another test is just starting.
    async fn unused_bus(&self) -> Arc<dyn Bus> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("unused-bus-{}.db", COUNT.fetch_add(1, Ordering::Relaxed));
        bus::open(&format!("sqlite:{}", self.backends.folder().join(name).display())).await.unwrap()
    }

    async fn open_on(&self, bus: Arc<dyn Bus>, at_work: bool) -> App<'_> {
        let dependencies = Dependencies {
            database: DatabaseConfig { url: ConnectionUrl::new(&self.url), ..DatabaseConfig::default() },
            bus: Arc::clone(&bus),
            clock: self.clock.clone(),
            readiness: Readiness::new(),
            auth: self.auth.clone(),
            session_jwks: self.session_jwks.clone(),
            egress: self.egress.clone(),
        };
        let registry = ServiceRegistry::open(self.config.clone(), dependencies).await.unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = Vec::new();
        if at_work {
            let (roles, stop) = (registry.roles(shutdown.clone()), shutdown.clone());
            tasks.push(tokio::spawn(async move { supervise(roles, stop, PATIENCE).await.unwrap() }));
        }
        let inner = Listener::bind("http.admin_listen", ([127, 0, 0, 1], 0).into()).unwrap();
        let internal_base = format!("http://{}", inner.address());
        let verifier = InternalVerifier::new(&internal_config(), &["service-registry"]);
        let internal = InternalRoutes::new(verifier, self.clock.clone(), registry.internal_routes());
        let options = ServerOptions { name: "admin", workers: 1, ..Default::default() };
        let stop = shutdown.clone();
        tasks.push(tokio::spawn(async move {
            admin::serve(inner, options, Readiness::new(), Some(internal), stop).await.unwrap();
        }));
        let listener = Listener::bind("http.listen", ([127, 0, 0, 1], 0).into()).unwrap();
        let base = format!("http://{}", listener.address());
        let options = ServerOptions { name: "service-registry", workers: 1, ..Default::default() };
        let (routes, stop) = (registry.routes(), shutdown.clone());
        let serving = tokio::spawn(async move { http::serve(listener, options, stop, routes).await.unwrap() });
        let redirects = reqwest::redirect::Policy::none();
        let http = Client::builder().redirect(redirects).no_proxy().timeout(PATIENCE).build().unwrap();
        tasks.push(serving);
        App { world: self, base, internal_base, http, bus, shutdown, tasks }
    }

    /// The session token of a run, as a runner makes it.
    pub(crate) fn session_token(&self, username: &str, organisation: &str, audience: &str) -> String {
        let exp = self.clock.now().timestamp() + 600;
        let claims = json!({
            "sub": username, "org": organisation, "aud": audience, "exp": exp, "act": { "sub": "carillon" },
        });
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.session_key).unwrap()
    }

    /// A token, good for an hour.
    pub(crate) fn token(&self, username: &str, organisation: Option<&str>, role: Role) -> String {
        let caller = Caller { username: username.into(), organisation: organisation.map(str::to_owned), role };
        issue_token(&self.auth, &caller, Duration::from_secs(3600), self.clock.now()).unwrap()
    }

    /// The token of the user that most tests act as.
    pub(crate) fn ann(&self) -> String {
        self.token("ann", Some("acme"), Role::TenantAdmin)
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    /// Works on the database behind the registry's back.
    pub(crate) fn execute(&self, statements: &str) {
        if self.backends.is_postgres() {
            PgConnection::establish(&self.url).unwrap().batch_execute(statements).unwrap();
        } else {
            self.open_sqlite().batch_execute(statements).unwrap();
        }
    }

    /// The one number, called `value`, that a statement finds.
    pub(crate) fn value(&self, statement: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            value: i64,
        }
        let statement = diesel::sql_query(format!("SELECT CAST(value AS BIGINT) AS value FROM ({statement}) AS found"));
        let row: Row = if self.backends.is_postgres() {
            statement.get_result(&mut PgConnection::establish(&self.url).unwrap()).unwrap()
        } else {
            statement.get_result(&mut self.open_sqlite()).unwrap()
        };
        row.value
    }

    /// A connection of the test's own, which waits for whoever writes.
    fn open_sqlite(&self) -> SqliteConnection {
        let mut connection = SqliteConnection::establish(self.url.trim_start_matches("sqlite:")).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 60000").unwrap();
        connection
    }
}

/// A registry at work.
pub(crate) struct App<'w> {
    pub(crate) world: &'w World,
    pub(crate) base: String,
    pub(crate) internal_base: String,
    pub(crate) http: Client,
    pub(crate) bus: Arc<dyn Bus>,
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

    /// The faults of a 422, each as the way to it and its type.
    #[track_caller]
    pub(crate) fn faults(self) -> Vec<(String, String)> {
        let body = self.ok(422);
        let fault = |fault: &Value| {
            assert!(!fault["msg"].as_str().unwrap().is_empty(), "{fault}");
            assert_eq!(fault.as_object().unwrap().len(), 3, "{fault}");
            let step = |step: &Value| step.as_str().map_or_else(|| step.to_string(), str::to_owned);
            let loc: Vec<String> = fault["loc"].as_array().unwrap().iter().map(step).collect();
            (loc.join("."), fault["type"].as_str().unwrap().to_owned())
        };
        body["detail"].as_array().unwrap().iter().map(fault).collect()
    }
}

impl App<'_> {
    /// Stops in good order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await.unwrap();
        }
        self.bus.close().await;
    }

    /// Sends a request with these headers and nothing else.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}/v1beta1{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// Sends JSON with a token.
    pub(crate) async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.send(method, path, &headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call_as(&self.world.ann(), "GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call_as(&self.world.ann(), "POST", path, Some(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call_as(&self.world.ann(), "PUT", path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call_as(&self.world.ann(), "DELETE", path, None).await
    }

    /// Registers a service and returns its id.
    pub(crate) async fn register(&self, fields: Value) -> String {
        let service = self.post("/services", service_with(fields)).await.ok(200);
        service["uuid"].as_str().unwrap().to_owned()
    }

    /// Makes a group and returns its id.
    pub(crate) async fn group(&self, name: &str, is_private: bool) -> String {
        let group = json!({ "name": name, "isPrivate": is_private });
        let group = self.post("/service-groups/", group).await.ok(200);
        group["uuid"].as_str().unwrap().to_owned()
    }

    /// Puts a service into a group.
    pub(crate) async fn connect(&self, service: &str, group: &str) {
        let pair = json!({ "service": service, "serviceGroup": group });
        assert_eq!(self.post("/services/service-sg/", pair.clone()).await.ok(200), pair);
    }
}

impl App<'_> {
    /// Tells the registry over the bus what a run did.
    pub(crate) async fn invoked(&self, invoked: &ServicesInvoked) {
        let message = Message::new(EventKind::ServiceInvoked, "test", self.world.clock.now(), invoked.encode());
        assert_eq!(ServicesInvoked::KIND, message.kind);
        self.bus.publish(vec![message]).await.unwrap();
    }

    /// Asks at the internal door which services a run may call; with the status of the answer.
    pub(crate) async fn callable(&self, session_token: &str, groups: &[&str]) -> Result<CallableServices, u16> {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        let body = CallableServicesRequest { session_token: session_token.to_owned(), groups }.encode();
        let signer = InternalSigner::new(&internal_config(), "agent-runner");
        let token = signer.sign("service-registry", self.world.clock.now()).unwrap();
        let url = format!("{}/internal/services", self.internal_base);
        let answer = self.http.post(url).bearer_auth(token).body(body).send().await.unwrap();
        match answer.status().as_u16() {
            200 => Ok(CallableServices::decode(&answer.bytes().await.unwrap()).unwrap()),
            status => Err(status),
        }
    }
}

fn internal_config() -> InternalConfig {
    InternalConfig { key: Secret::new("the-internal-key-of-these-tests-0123456789".to_owned()) }
}

fn session_key() -> (EncodingKey, String) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwks =
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "use": "sig", "alg": "EdDSA" }] });
    (EncodingKey::from_ed_der(der.as_ref()), jwks.to_string())
}

/// The names in a list.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}
