//! The two listeners over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use service_kit::admin::{self, InternalRoutes, Readiness};
use service_kit::auth::{InternalCaller, InternalSigner, InternalVerifier};
use service_kit::clock::Clock;
use service_kit::config::InternalConfig;
use service_kit::error::ApiError;
use service_kit::http::{self, HttpError, Listener, RequestContext, ServerOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    client: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), HttpError>>,
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn listener() -> Listener {
    Listener::bind("http.listen", (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap()
}

/// Where a request waits until the test lets it go on.
#[derive(Default)]
struct Gate {
    reached: Notify,
    opened: Notify,
}

async fn gated(gate: web::Data<Gate>) -> HttpResponse {
    gate.reached.notify_one();
    gate.opened.notified().await;
    HttpResponse::Ok().json("done")
}

fn public() -> Server {
    public_with(Arc::default())
}

fn public_with(gate: Arc<Gate>) -> Server {
    let (listener, shutdown) = (listener(), CancellationToken::new());
    let address = listener.address();
    let options = ServerOptions { body_bytes_max: 1_000, ..ServerOptions::default() };
    let running = tokio::spawn(http::serve(listener, options, shutdown.clone(), move |config| {
        let echo = web::post().to(|body: web::Bytes| async move { HttpResponse::Ok().body(body) });
        config
            .service(web::resource("/echo/").route(echo))
            .route("/number/{n}/", web::get().to(|n: web::Path<u32>| async move { HttpResponse::Ok().json(*n) }))
            .route("/broken/", web::get().to(|| async { Err::<HttpResponse, _>(std::io::Error::other("s3cret path")) }))
            .route("/refused/", web::get().to(|| async { Err::<HttpResponse, _>(ApiError::forbidden()) }))
            .route(
                "/context/",
                web::get().to(|context: RequestContext| async move {
                    HttpResponse::Ok().json(json!({ "id": context.request_id, "trace": context.trace_id() }))
                }),
            )
            .app_data(web::Data::from(Arc::clone(&gate)))
            .route("/gated/", web::get().to(gated));
    }));
    Server { address, client: client(), shutdown, running }
}

#[tokio::test]
async fn what_the_framework_refuses_is_refused_in_json() {
    let server = public();
    assert_eq!(server.get("/nowhere/").await, (404, json!({ "detail": "Not found.", "code": "not_found" })));
    assert_eq!(server.get("/refused/").await.0, 403);
    assert_eq!(server.get("/broken/").await, (500, json!({ "detail": "A server error occurred.", "code": "error" })));
    let (status, body) = server.get("/number/x/").await;
    assert!(status == 404 && body["detail"].is_string(), "{status} {body}");

    let wrong_method = server.client.get(server.url("/echo/")).send().await.unwrap();
    assert_eq!(wrong_method.status(), 405);
    assert_eq!(wrong_method.headers()["allow"], "POST");
    assert_eq!(
        wrong_method.json::<Value>().await.unwrap(),
        json!({ "detail": "Method \"GET\" not allowed.", "code": "method_not_allowed" })
    );

    let large = server.client.post(server.url("/echo/")).body(vec![b'x'; 1_001]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(
        large.json::<Value>().await.unwrap(),
        json!({ "detail": "Request body is too large.", "code": "body_too_large" })
    );
    let just_fits = server.client.post(server.url("/echo/")).body(vec![b'x'; 1_000]).send().await.unwrap();
    assert_eq!(just_fits.bytes().await.unwrap().len(), 1_000);
    server.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_and_its_trace() {
    let server = public();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = server.client.get(server.url("/context/")).header("x-request-id", "mine-1");
    let response = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "id": "mine-1", "trace": trace }));

    let response = server.client.get(server.url("/context/")).send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "id": id, "trace": null }));
    server.stop().await;
}

#[tokio::test]
async fn a_request_in_progress_is_finished_when_the_server_stops() {
    let gate = Arc::new(Gate::default());
    let server = public_with(Arc::clone(&gate));
    let waiting = tokio::spawn(server.client.get(server.url("/gated/")).send());
    gate.reached.notified().await;
    server.shutdown.cancel();
    gate.opened.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap().json::<Value>().await.unwrap(), json!("done"));
    server.stop().await;
}

#[test]
fn a_port_in_use_names_address_and_setting() {
    let taken = listener();
    let error = Listener::bind("http.admin_listen", taken.address()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cannot listen on {}: set `http.admin_listen` to a free address of this host", taken.address())
    );
}

fn internal_config() -> InternalConfig {
    InternalConfig { key: "a-key-that-only-microservices-hold".to_owned().into() }
}

fn admin(readiness: Readiness) -> Server {
    let (listener, shutdown) = (listener(), CancellationToken::new());
    let address = listener.address();
    let verifier = InternalVerifier::new(&internal_config(), &["cron-dispatcher"]);
    let routes = InternalRoutes::new(verifier, Clock::host(), |config| {
        config.route(
            "/whoami",
            web::get().to(|caller: InternalCaller| async move { HttpResponse::Ok().json(caller.microservice) }),
        );
    });
    let options = ServerOptions { workers: 1, ..ServerOptions::default() };
    let running = tokio::spawn(admin::serve(listener, options, readiness, Some(routes), shutdown.clone()));
    Server { address, client: client(), shutdown, running }
}

#[tokio::test]
async fn readiness_lists_what_is_missing() {
    let readiness = Readiness::new();
    let (database, bus) = (readiness.condition("database"), readiness.condition("bus"));
    let server = admin(readiness);
    assert_eq!(server.get("/healthz").await, (200, json!({ "status": "ok" })));
    database.met();
    bus.unmet("cannot reach the broker");
    let missing = json!({ "ready": false, "not_ready": { "bus": "cannot reach the broker" } });
    assert_eq!(server.get("/readyz").await, (503, missing));
    bus.met();
    assert_eq!(server.get("/readyz").await, (200, json!({ "ready": true })));
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_served_by_route_and_not_by_what_was_typed() {
    let server = admin(Readiness::new());
    server.get("/readyz").await;
    server.get("/typed-by-a-stranger").await;
    let text = server.client.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"route="/readyz""#) && text.contains(r#"route="unknown""#), "{text}");
    assert!(!text.contains("stranger"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn internal_routes_open_only_to_a_token_for_this_microservice() {
    let server = admin(Readiness::new());
    let signer = InternalSigner::new(&internal_config(), "agent-registry");
    let ask = async |authorization: Option<String>, path: &str| {
        let mut request = server.client.get(server.url(path));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let now = Clock::host().now();
    let good = format!("Bearer {}", signer.sign("cron-dispatcher", now).unwrap());
    let other = format!("Bearer {}", signer.sign("callback-deliverer", now).unwrap());
    assert_eq!(ask(Some(good.clone()), "/internal/whoami").await, (200, json!("agent-registry")));
    assert_eq!(
        ask(Some(good), "/internal/nowhere").await,
        (404, json!({ "detail": "Not found.", "code": "not_found" }))
    );
    assert_eq!(
        ask(Some(other), "/internal/whoami").await,
        (401, json!({ "detail": "Invalid token.", "code": "authentication_failed" }))
    );
    assert_eq!(ask(Some("Bearer 0af3".to_owned()), "/internal/whoami").await.0, 401);
    let without = json!({ "detail": "Authentication credentials were not provided.", "code": "not_authenticated" });
    assert_eq!(ask(None, "/internal/whoami").await, (401, without.clone()));
    assert_eq!(ask(None, "/internal/nowhere").await, (401, without));
    server.stop().await;
}

#[tokio::test]
async fn only_pages_of_configured_origins_may_call_from_a_browser() {
    let routes = |config: &mut web::ServiceConfig| {
        config.route("/x", web::get().to(async || HttpResponse::Ok().json("x")));
    };
    for (origins, expected) in [
        (vec!["https://app.example".to_owned()], [Some("https://app.example"), None]),
        (vec!["*".to_owned()], [Some("*"), Some("*")]),
        (vec![], [None, None]),
    ] {
        let listener = listener();
        let (address, shutdown) = (listener.address(), CancellationToken::new());
        let options = ServerOptions { cors_origins: origins, ..ServerOptions::default() };
        let running = tokio::spawn(http::serve(listener, options, shutdown.clone(), routes));
        let url = format!("http://{address}/x");
        for (origin, allowed) in ["https://app.example", "https://other.example"].into_iter().zip(expected) {
            let preflight = client().request(reqwest::Method::OPTIONS, &url);
            let preflight = preflight
                .header("access-control-request-method", "PATCH")
                .header("access-control-request-headers", "authorization,content-type");
            for request in [preflight, client().get(&url)] {
                let answer = request.header("origin", origin).send().await.unwrap();
                let header = answer.headers().get("access-control-allow-origin");
                assert_eq!(header.and_then(|value| value.to_str().ok()), allowed);
            }
        }
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
