//! Endpoints that are probed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App as Web, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::json;
use service_kit::egress::Guard;
use test_kit::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{App, World};

const PATIENCE: Duration = Duration::from_secs(120);
/// How many services were counted in an hour.
const HOURS: &str = "SELECT count(*) AS value FROM service_hours";

/// A service that answers every request with one status.
struct Endpoint {
    url: String,
    status: Arc<AtomicU16>,
    probes: Arc<AtomicUsize>,
    /// Most probes at one time.
    at_most: Arc<AtomicUsize>,
}

/// What an endpoint is made of, in each of its handlers.
struct State {
    status: Arc<AtomicU16>,
    probes: Arc<AtomicUsize>,
    now: AtomicUsize,
    at_most: Arc<AtomicUsize>,
}

impl Endpoint {
    fn answering(status: u16) -> Self {
        let (status, probes, at_most) = (Arc::new(AtomicU16::new(status)), Arc::default(), Arc::default());
        let state = State {
            status: Arc::clone(&status),
            probes: Arc::clone(&probes),
            now: AtomicUsize::new(0),
            at_most: Arc::clone(&at_most),
        };
        let state = web::Data::new(state);
        let server = HttpServer::new(move || Web::new().app_data(state.clone()).default_service(web::to(answer)));
        let server = server.workers(1).disable_signals().shutdown_timeout(0).bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/call", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, status, probes, at_most }
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }
}

async fn answer(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let is_bare = request.method().as_str() == "OPTIONS" && request.headers().get("authorization").is_none();
    state.probes.fetch_add(1, Ordering::SeqCst);
    let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
    state.at_most.fetch_max(now, Ordering::SeqCst);
    // Others that are let through at the same time arrive meanwhile.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    state.now.fetch_sub(1, Ordering::SeqCst);
    let status = if is_bare { state.status.load(Ordering::SeqCst) } else { 500 };
    HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish()
}

fn world() -> World {
    let mut world = World::new();
    world.egress = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    world
}

async fn uptime(app: &App<'_>, service: &str) -> f64 {
    app.get(&format!("/services/{service}")).await.ok(200)["uptime"].as_f64().unwrap()
}

/// Lets the only service be probed again and again, until its uptime is as wanted. Time stands still during a probe.
async fn uptime_becomes(app: &App<'_>, service: &str, wanted: impl Fn(f64) -> bool) {
    let probes =
        || app.world.value("SELECT coalesce(sum(probes_succeeded + probes_failed), 0) AS value FROM service_hours");
    until("it is probed", PATIENCE, async || (probes() > 0).then_some(())).await;
    until("the uptime is as it should be", PATIENCE, async || {
        let until_now = probes();
        // However often it failed, it is due.
        app.world.advance(20 * 60);
        until("it is probed again", PATIENCE, async || (probes() > until_now).then_some(())).await;
        wanted(uptime(app, service).await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_answers_is_up_whatever_it_thinks_of_the_method() {
    let world = world();
    let app = world.open_at_work().await;
    let mut services = Vec::new();
    for (status, up) in [(200, 1.0), (204, 1.0), (401, 1.0), (405, 1.0), (302, 0.0), (404, 0.0), (410, 0.0), (500, 0.0)]
    {
        let service = app.register(json!({ "endpoint": Endpoint::answering(status).url })).await;
        services.push((service, status, up));
    }
    until("all are probed", PATIENCE, async || (world.value(HOURS) == 8).then_some(())).await;
    for (service, status, up) in services {
        assert_eq!(uptime(&app, &service).await, up, "{status}");
    }
}

#[tokio::test]
async fn the_connection_of_a_probe_ends_with_it() {
    let world = world();
    let app = world.open_at_work().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    app.register(json!({ "endpoint": format!("http://{}/", listener.local_addr().unwrap()) })).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(connection.read_buf(&mut request).await.unwrap(), 0);
    }
    connection.write_all(b"HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n").await.unwrap();
    until("it is counted", PATIENCE, async || (world.value(HOURS) == 1).then_some(())).await;
    // Sooner than idle connections are closed for their age.
    let ended = tokio::time::timeout(Duration::from_secs(30), connection.read(&mut [0; 1])).await;
    assert_eq!(ended.expect("the connection stays open").unwrap(), 0);
}

#[tokio::test]
async fn what_is_gone_counts_for_as_long_as_it_is_gone_and_comes_back() {
    let (world, endpoint) = (world(), Endpoint::answering(200));
    let app = world.open_at_work().await;
    let service = app.register(json!({ "endpoint": endpoint.url })).await;
    uptime_becomes(&app, &service, |uptime| uptime == 1.0).await;
    endpoint.status.store(503, Ordering::SeqCst);
    uptime_becomes(&app, &service, |uptime| uptime < 0.5).await;
    endpoint.status.store(200, Ordering::SeqCst);
    uptime_becomes(&app, &service, |uptime| uptime > 0.5).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_down() {
    let world = world();
    let app = world.open_at_work().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let service = app.register(json!({ "endpoint": endpoint })).await;
    let _silent = listener.accept().await.unwrap();
    world.advance(10);
    // Sooner than the client itself would give up.
    until("it is counted", Duration::from_secs(25), async || (world.value(HOURS) == 1).then_some(())).await;
    assert_eq!(uptime(&app, &service).await, 0.0);
}

#[tokio::test]
async fn an_endpoint_where_nothing_may_be_called_is_down() {
    let mut world = world();
    // Registered while it was allowed.
    let app = world.open().await;
    let endpoint = Endpoint::answering(200);
    let service = app.register(json!({ "endpoint": endpoint.url })).await;
    app.stop().await;
    world.egress = Guard::new(vec![]);
    let app = world.open_at_work().await;
    until("it is probed", PATIENCE, async || (world.value(HOURS) == 1).then_some(())).await;
    assert_eq!((uptime(&app, &service).await, endpoint.probes()), (0.0, 0));
}

#[tokio::test]
async fn replicas_share_the_probes_and_none_is_made_twice() {
    let world = world();
    let apps = [world.open_at_work().await, world.open_beside().await];
    let endpoints = [(); 10].map(|()| Endpoint::answering(200));
    for endpoint in &endpoints {
        apps[0].register(json!({ "endpoint": endpoint.url })).await;
    }
    let counted = "SELECT coalesce(sum(probes_succeeded), 0) AS value FROM service_hours";
    until("all are probed", PATIENCE, async || (world.value(counted) == 10).then_some(())).await;
    assert_eq!(endpoints.map(|endpoint| endpoint.probes()), [1; 10]);
}

#[tokio::test]
async fn no_origin_has_more_than_a_few_probes_at_a_time() {
    let (world, endpoint) = (world(), Endpoint::answering(200));
    let app = world.open_at_work().await;
    for _ in 0..24 {
        app.register(json!({ "endpoint": endpoint.url })).await;
    }
    // Each as soon as another has ended: time stands still.
    until("all are probed", PATIENCE, async || (world.value(HOURS) == 24).then_some(())).await;
    assert!(endpoint.at_most.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn an_endpoint_that_is_taken_away_is_probed_no_more_and_a_new_one_at_once() {
    let (world, first, second) = (world(), Endpoint::answering(200), Endpoint::answering(200));
    let app = world.open_at_work().await;
    let service = app.register(json!({ "endpoint": first.url })).await;
    until("the first is probed", PATIENCE, async || (first.probes() == 1).then_some(())).await;
    let mut edited = app.get(&format!("/services/{service}")).await.ok(200);
    edited["endpoint"] = json!(second.url);
    app.put("/services", edited.clone()).await.ok(200);
    until("the second is probed", PATIENCE, async || (second.probes() == 1).then_some(())).await;
    edited["endpoint"] = json!(null);
    app.put("/services", edited).await.ok(200);
    assert_eq!(world.value("SELECT count(*) AS value FROM service_probes"), 0);
}
