//! Serving HTTP: listening, limits, the request log, and a graceful stop.

mod body;
mod observe;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;

pub use body::read_body;
pub use observe::RequestContext;

/// Longer than clients and proxies keep idle connections, so that it is they who close them.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a browser may go by what it was told.
const CORS_SECONDS: usize = 600;

/// An address that is ours.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

/// What a server allows.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its name in the request log and in metrics, as `agent-registry`.
    pub name: &'static str,
    /// The largest request body.
    pub body_bytes_max: usize,
    /// The web pages that may call it, by their origins; `*`: all.
    pub cors_origins: Vec<String>,
    /// Threads that serve.
    pub workers: usize,
    /// How long requests in progress may take once a stop was asked for.
    pub drain: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: "carillon",
            body_bytes_max: 12 * 1024 * 1024,
            cors_origins: Vec::new(),
            workers: 2,
            drain: Duration::from_secs(20),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: set `{setting}` to a free address of this host")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The server failed later on.
    #[error("the HTTP server `{name}` failed")]
    Serve {
        /// Its name.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl Listener {
    /// Takes `address`; port 0 takes a free one. `setting` is what an operator would have to change.
    ///
    /// # Errors
    ///
    /// One line that names address and setting.
    pub fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, HttpError> {
        let bound = TcpListener::bind(address).and_then(|inner| Ok(Self { address: inner.local_addr()?, inner }));
        bound.map_err(|source| HttpError::Listen { address, setting, source })
    }

    /// The address, with the port that was free.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves `routes` until `shutdown`, then finishes the requests in progress.
///
/// Every failure is answered in JSON, also those that the framework itself finds, and every request is logged once.
///
/// # Errors
///
/// The system takes the listener away.
pub async fn serve(
    listener: Listener,
    options: ServerOptions,
    shutdown: CancellationToken,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> Result<(), HttpError> {
    let ServerOptions { name, body_bytes_max, cors_origins, workers, drain } = options;
    let failed = |source| HttpError::Serve { name, source };
    let server = HttpServer::new(move || {
        let routes = routes.clone();
        App::new()
            .app_data(web::PayloadConfig::new(body_bytes_max))
            .app_data(web::JsonConfig::default().limit(body_bytes_max))
            .app_data(web::FormConfig::default().limit(body_bytes_max))
            .wrap(Condition::new(!cors_origins.is_empty(), cors(&cors_origins)))
            .wrap(from_fn(move |request, next| observe::observe(name, request, next)))
            .configure(move |config| routes(config))
    })
    .workers(workers.max(1))
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEADERS_WITHIN)
    .shutdown_timeout(drain.as_secs())
    .shutdown_signal(shutdown.cancelled_owned())
    .listen(listener.inner)
    .map_err(failed)?;
    tracing::info!(server = name, address = %listener.address, "listening");
    server.run().await.map_err(failed)
}

/// What browsers are told. Credentials come in `Authorization`, never in cookies, so that no origin gains anything by
/// being believed.
fn cors(origins: &[String]) -> Cors {
    let any = origins.iter().any(|origin| origin == "*");
    let cors = origins
        .iter()
        .filter(|origin| *origin != "*")
        .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin));
    let cors = if any { cors.allow_any_origin().send_wildcard() } else { cors };
    cors.allow_any_method()
        .allow_any_header()
        .expose_headers([
            header::ALLOW,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            REQUEST_ID,
        ])
        .block_on_origin_mismatch(false)
        .max_age(CORS_SECONDS)
}
