//! The second listener, which no ingress reaches: health, readiness, metrics, and the routes that microservices keep
//! for each other.

mod log_level;
mod probe;
mod readiness;

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage, HttpResponse, web};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use probe::probe;
pub use readiness::{Condition, Readiness};

use crate::auth::{AuthError, Credential, InternalVerifier};
use crate::clock::Clock;
use crate::error::ApiError;
use crate::http::{self, HttpError, Listener, ServerOptions};
use crate::telemetry;

type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// The routes under `/internal`. Each is behind the verifier: a route cannot forget it.
///
/// The microservice that calls is an argument of the handler, [`InternalCaller`](crate::auth::InternalCaller).
#[derive(Clone)]
pub struct InternalRoutes {
    door: web::Data<Door>,
    routes: Routes,
}

struct Door {
    verifier: InternalVerifier,
    clock: Clock,
}

impl InternalRoutes {
    /// `routes` adds them, with paths that go on from `/internal`.
    pub fn new(
        verifier: InternalVerifier,
        clock: Clock,
        routes: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        Self { door: web::Data::new(Door { verifier, clock }), routes: Arc::new(routes) }
    }

    fn mount(&self, config: &mut web::ServiceConfig) {
        config.service(
            web::scope("/internal")
                .app_data(self.door.clone())
                .wrap(from_fn(internal_only))
                .configure(log_level::routes)
                .configure(|config| (self.routes)(config)),
        );
    }
}

/// Serves `/healthz`, `/readyz`, `/metrics` and the internal routes until `shutdown`.
///
/// # Errors
///
/// The system takes the listener away.
pub async fn serve(
    listener: Listener,
    options: ServerOptions,
    readiness: Readiness,
    internal: Option<InternalRoutes>,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    let metrics = telemetry::metrics();
    http::serve(listener, options, shutdown, move |config| {
        config
            .app_data(web::Data::new(readiness.clone()))
            .app_data(web::Data::new(metrics.clone()))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(render_metrics));
        if let Some(internal) = &internal {
            internal.mount(config);
        }
    })
    .await
}

/// `GET /healthz`: the process answers. It says nothing about what it depends on: to be started anew would not mend
/// that.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 200 if every condition is met, else 503 with those that are not.
async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return HttpResponse::Ok().json(json!({ "ready": true }));
    }
    HttpResponse::ServiceUnavailable().json(json!({ "ready": false, "not_ready": unmet }))
}

/// `GET /metrics`, in the Prometheus text format.
async fn render_metrics(metrics: web::Data<metrics_exporter_prometheus::PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}

async fn internal_only<B: MessageBody + 'static>(
    door: web::Data<Door>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let caller = Credential::from_headers(request.headers()).and_then(|credential| match credential {
        Credential::Token(token) => door.verifier.verify(token.expose(), door.clock.now()),
        Credential::ApiKey(_) => Err(AuthError::Invalid("no token".to_owned())),
    });
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.call(request).await
        }
        Err(error) => {
            tracing::warn!(error = %error, "a call to an internal route was refused");
            Err(ApiError::from(error).into())
        }
    }
}
