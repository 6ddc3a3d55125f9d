//! The deliverer over internal HTTP: deliveries, replays, endpoints. JSON bodies, tokens of one minute.

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;
use service_kit::error::{ApiError, chain};
use tokio::sync::Notify;
use url::Url;

use crate::peer::{self, RETRY_AFTER};

/// Whom the tokens are for.
const NAME: &str = "callback-deliverer";

/// Asks the deliverer.
pub(crate) struct Deliverer {
    client: Client,
    base: Url,
    signer: InternalSigner,
    clock: Clock,
    /// Told when an endpoint was enabled.
    pub(crate) endpoint_changed: Notify,
}

/// An answer other than a failure of the deliverer's own: what is there, or why it is refused.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// The deliverer did not answer, or not as it should; the reason is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deliverer is unavailable")]
pub(crate) struct Unavailable;

impl From<Unavailable> for ApiError {
    fn from(_: Unavailable) -> Self {
        Self::unavailable("deliverer_unavailable", RETRY_AFTER)
    }
}

impl Deliverer {
    /// A client for the deliverer at `base`.
    pub(crate) fn new(base: Url, signer: InternalSigner, clock: Clock) -> Result<Self, reqwest::Error> {
        Ok(Self { client: peer::client()?, base, signer, clock, endpoint_changed: Notify::new() })
    }

    /// Asks for `/internal/{path}`, each part of which is escaped, with this query and body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Unavailable> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| unavailable("its URL has no path"))?.extend(["internal"]).extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let token = self.signer.sign(NAME, self.clock.now()).map_err(|error| unavailable(&chain(&error)))?;
        let mut request = self.client.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unavailable(&chain(&error.without_url())))?;
        let status = answer.status();
        let known = status.is_success()
            || matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::CONFLICT);
        if !known {
            return Err(unavailable(&format!("it answered {status}")));
        }
        let body = answer.json().await.map_err(|error| unavailable(&chain(&error.without_url())))?;
        Ok(Answer { status, body })
    }
}

fn unavailable(reason: &str) -> Unavailable {
    metrics::counter!("carillon_registry_deliverer_failures_total").increment(1);
    tracing::warn!(error = reason, "the deliverer did not answer as it should");
    Unavailable
}
