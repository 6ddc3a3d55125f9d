//! The dispatcher over internal HTTP: triggers, unfinished runs, ticks, pauses. Protobuf bodies, tokens of one minute.

use std::sync::Arc;

use model::document::Document;
use model::event::{DocumentChanged, DocumentsHeld};
use model::id::{AgentId, RunId};
use model::internal::{TickPage, TriggerRequest};
use model::run::RunRecord;
use model::wire::Wire;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;
use service_kit::error::{ApiError, chain};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::{Url, form_urlencoded};

use crate::peer::{self, RETRY_AFTER};

/// Whom the tokens are for.
const NAME: &str = "cron-dispatcher";
/// An answer beyond it waits its turn.
const LARGE_BYTES: u64 = 1024 * 1024;
/// Large answers in memory at a time.
const LARGE_AT_A_TIME: usize = 4;

/// Asks the dispatcher.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    client: Client,
    base: Url,
    signer: InternalSigner,
    clock: Clock,
    large: Arc<Semaphore>,
}

/// A run as the dispatcher knows it. While this is kept, a large one has its turn in memory.
pub(crate) struct Told {
    pub(crate) record: RunRecord,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Whether everything stands still; as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PauseEverything {
    pub(crate) paused: bool,
    pub(crate) note: String,
    /// On a resume: what becomes of the ticks in between; none: as each schedule says.
    pub(crate) catch_up: Option<&'static str>,
}

/// The dispatcher did not answer, or not as it should; the reason is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dispatcher is unavailable")]
pub(crate) struct Unavailable;

impl From<Unavailable> for ApiError {
    fn from(_: Unavailable) -> Self {
        Self::unavailable("dispatcher_unavailable", RETRY_AFTER)
    }
}

impl Dispatcher {
    /// A client for the dispatcher at `base`.
    pub(crate) fn new(base: Url, signer: InternalSigner, clock: Clock) -> Result<Self, reqwest::Error> {
        let large = Arc::new(Semaphore::new(LARGE_AT_A_TIME));
        Ok(Self { client: peer::client()?, base, signer, clock, large })
    }

    /// Makes a run now; `None` if the dispatcher knows no such agent.
    pub(crate) async fn trigger(&self, request: &TriggerRequest) -> Result<Option<RunRecord>, Unavailable> {
        self.ask(self.protobuf(Method::POST, "/internal/runs")?.body(request.encode())).await
    }

    /// A run as it is now; `None` if the dispatcher knows it no more, or never did.
    pub(crate) async fn run(&self, id: RunId) -> Result<Option<Told>, Unavailable> {
        let request = self.request(Method::GET, &format!("/internal/runs/{id}"))?;
        let Some(answer) = send(request).await? else { return Ok(None) };
        let turn = if answer.content_length().is_none_or(|length| length > LARGE_BYTES) {
            // The semaphore is never closed.
            Some(Arc::clone(&self.large).acquire_owned().await.map_err(|_| Unavailable)?)
        } else {
            None
        };
        Ok(Some(Told { record: read(answer).await?, _turn: turn }))
    }

    /// Ends a run now, and answers with it; `None` if the dispatcher knows it no more, or never did.
    pub(crate) async fn cancel(&self, id: RunId) -> Result<Option<RunRecord>, Unavailable> {
        self.ask(self.request(Method::POST, &format!("/internal/runs/{id}/cancel"))?).await
    }

    /// A page of an agent's ticks, newest first, those that `filter` says; `None` if the dispatcher knows no such agent.
    pub(crate) async fn ticks(
        &self,
        id: AgentId,
        filter: &[(&str, String)],
        page: i64,
        page_size: i64,
    ) -> Result<Option<TickPage>, Unavailable> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("page", &page.to_string()).append_pair("page_size", &page_size.to_string());
        let query = query.extend_pairs(filter).finish();
        self.ask(self.request(Method::GET, &format!("/internal/agents/{id}/ticks?{query}"))?).await
    }

    /// Hands over documents that must be in force at once.
    pub(crate) async fn hold(&self, documents: Vec<Document>) -> Result<(), Unavailable> {
        let body = DocumentChanged { documents }.encode();
        let held = self.ask::<DocumentsHeld>(self.protobuf(Method::POST, "/internal/documents")?.body(body)).await?;
        held.map(|_| ()).ok_or_else(|| unavailable("it does not take documents"))
    }

    /// Pauses or resumes everything.
    pub(crate) async fn pause_everything(&self, pause: &PauseEverything) -> Result<(), Unavailable> {
        let request = self.request(Method::PUT, "/internal/pause")?.json(pause);
        let answer = request.send().await.map_err(|error| unavailable(&chain(&error.without_url())))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(unavailable(&format!("it answered {}", answer.status())))
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Unavailable> {
        let failed = |error: &(dyn std::error::Error + 'static)| unavailable(&chain(error));
        let url = self.base.join(path).map_err(|error| failed(&error))?;
        let token = self.signer.sign(NAME, self.clock.now()).map_err(|error| failed(&error))?;
        Ok(self.client.request(method, url).bearer_auth(token))
    }

    fn protobuf(&self, method: Method, path: &str) -> Result<RequestBuilder, Unavailable> {
        Ok(self.request(method, path)?.header(reqwest::header::CONTENT_TYPE, "application/x-protobuf"))
    }

    async fn ask<T: Wire>(&self, request: RequestBuilder) -> Result<Option<T>, Unavailable> {
        match send(request).await? {
            Some(answer) => read(answer).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The beginning of an answer; `None` if there is no such thing.
async fn send(request: RequestBuilder) -> Result<Option<Response>, Unavailable> {
    let answer = request.send().await.map_err(|error| unavailable(&chain(&error.without_url())))?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if !status.is_success() => Err(unavailable(&format!("it answered {status}"))),
        _ => Ok(Some(answer)),
    }
}

async fn read<T: Wire>(answer: Response) -> Result<T, Unavailable> {
    let body = answer.bytes().await.map_err(|error| unavailable(&chain(&error.without_url())))?;
    T::decode(&body).map_err(|error| unavailable(&chain(&error)))
}

fn unavailable(reason: &str) -> Unavailable {
    metrics::counter!("carillon_registry_dispatcher_failures_total").increment(1);
    tracing::warn!(error = reason, "the dispatcher did not answer as it should");
    Unavailable
}
