//! One call of a service: a POST of JSON through the guard on outgoing requests, with a token of the run for that origin
//! alone, and an answer of JSON.
//!
//! A call is made once: whether it is worth another try, the model decides. Its `Idempotency-Key` is the same where the
//! same run calls the same service with the same arguments for the same time, so also when a runner died and another
//! asks the mentor again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::service::CallFailure;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use service_kit::clock::Clock;
use service_kit::egress::{EgressError, GuardedClient};
use service_kit::error::chain;
use service_kit::secrets::Secret;
use service_kit::traces::Kind;
use url::Url;
use uuid::Uuid;

use super::function::{Arguments, Function};
use crate::provider::complaint::{self, Secrets};
use crate::provider::shown;
use crate::session::{Session, SessionMinter};
use crate::trace::Trace;

/// The longest that a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What stands in an answer where the session token stood.
const MASK: &str = "****";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What every run calls services with.
pub(crate) struct CallTransport {
    pub(crate) clock: Clock,
    pub(crate) client: GuardedClient,
    pub(crate) sessions: Arc<SessionMinter>,
}

/// Calls services in the name of one run.
pub(crate) struct Caller {
    transport: Arc<CallTransport>,
    session: Session,
    trace: Trace,
    /// How often each call was made, by its own id.
    made: Mutex<HashMap<Uuid, u32>>,
}

/// What a service is sent.
#[derive(Serialize)]
struct Body<'a> {
    service: Uuid,
    log_id: i64,
    arguments: &'a BTreeMap<String, Box<RawValue>>,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: CallFailure,
    /// A sentence without secrets.
    pub(super) text: String,
}

impl Failed {
    fn new(failure: CallFailure, text: impl Into<String>) -> Self {
        Self { failure, text: text.into() }
    }

    fn of_refusal(refusal: &EgressError) -> Self {
        let unresolved = matches!(refusal, EgressError::Unresolved { .. });
        let failure = if unresolved { CallFailure::Unreachable } else { CallFailure::NotAllowed };
        Self::new(failure, refusal.to_string())
    }

    fn of_error(error: reqwest::Error) -> Self {
        if let Some(refusal) = EgressError::of(&error) {
            return Self::of_refusal(refusal);
        }
        let failure = if error.is_connect() { CallFailure::Unreachable } else { CallFailure::Broken };
        Self::new(failure, chain(&error.without_url()))
    }
}

impl Caller {
    pub(crate) fn new(transport: Arc<CallTransport>, session: Session, trace: Trace) -> Self {
        Self { transport, session, trace, made: Mutex::default() }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.transport.clock
    }

    /// Where a function is called, as the log shows it.
    pub(super) fn place(&self, function: &Function) -> String {
        Url::parse(&function.endpoint).map(|url| shown(&url)).unwrap_or_default()
    }

    /// Calls a service, and returns its answer: JSON.
    pub(super) async fn call(&self, function: &Function, arguments: &Arguments) -> Result<String, Failed> {
        let trace = self.trace.child();
        let answer = tokio::select! {
            answer = self.post(function, arguments, &trace) => answer,
            () = self.transport.clock.sleep(TIMEOUT) => {
                Err(Failed::new(CallFailure::TimedOut, format!("no whole answer within {} s", TIMEOUT.as_secs())))
            }
        };
        let failure = answer.as_ref().err().map(|failed| failed.failure.as_str());
        let service = function.service.to_string();
        trace.end("call service", Kind::Client, |span| span.with("service.id", service).failed(failure));
        answer
    }

    async fn post(&self, function: &Function, arguments: &Arguments, trace: &Trace) -> Result<String, Failed> {
        // A parse error never repeats the URL.
        let url = Url::parse(&function.endpoint)
            .map_err(|error| Failed::new(CallFailure::NotAllowed, format!("its endpoint cannot be read: {error}")))?;
        let token = self.token(&url)?;
        let client = &self.transport.client;
        let request = client.vetted_request(Method::POST, &url).await.map_err(|error| Failed::of_refusal(&error))?;
        let request = self.with_headers(request, function, arguments, &token);
        let request = match trace.traceparent() {
            Some(traceparent) => request.header(TRACEPARENT, traceparent),
            None => request,
        };
        let response = request.send().await.map_err(Failed::of_error)?;
        read(response, &token).await
    }

    fn token(&self, url: &Url) -> Result<Secret<String>, Failed> {
        let audience = url.origin().ascii_serialization();
        self.transport.sessions.mint(&self.session, &audience, self.transport.clock.now()).map_err(|error| {
            Failed::new(CallFailure::NotAllowed, format!("the session token cannot be signed ({error})"))
        })
    }

    fn with_headers(
        &self,
        request: RequestBuilder,
        function: &Function,
        arguments: &Arguments,
        token: &Secret<String>,
    ) -> RequestBuilder {
        let (service, log_id) = (function.service, self.session.run_id.0);
        let canonical = json!({ "service": service, "log_id": log_id, "arguments": arguments.canonical });
        let body = Body { service, log_id, arguments: &arguments.written };
        request
            .bearer_auth(token.expose())
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .header(IDEMPOTENCY_KEY, self.idempotency_key(&(canonical.to_string() + &arguments.beyond_canonical())))
            .json(&body)
    }

    fn idempotency_key(&self, canonical: &str) -> String {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, canonical.as_bytes());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let time = made.entry(id).and_modify(|times| *times += 1).or_insert(1);
        Uuid::new_v5(&id, &time.to_be_bytes()).to_string()
    }
}

async fn read(mut response: Response, token: &Secret<String>) -> Result<String, Failed> {
    let status = response.status();
    let mut bytes = Vec::new();
    let mut goes_on = false;
    while let Some(chunk) = response.chunk().await.map_err(Failed::of_error)? {
        let room = ANSWER_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            goes_on = true;
            break;
        }
    }
    if status.is_redirection() {
        return Err(Failed::new(CallFailure::Redirected, format!("it answered {status}, which is not followed")));
    }
    if !status.is_success() {
        let mut secrets = Secrets::default();
        secrets.add(token.expose());
        let said = secrets.shorten(&complaint::of_body(&bytes));
        let colon = if said.is_empty() { "" } else { ": " };
        return Err(Failed::new(CallFailure::Status, format!("it answered {status}{colon}{said}")));
    }
    if goes_on {
        return Err(Failed::new(CallFailure::TooLarge, format!("its answer is larger than {ANSWER_BYTES_MAX} bytes")));
    }
    // Its own text: a number may have more digits than we hold.
    let answer: &RawValue = serde_json::from_slice(&bytes)
        .map_err(|error| Failed::new(CallFailure::NotJson, format!("its answer is no JSON: {error}")))?;
    // One that repeats what it was asked would show the token to the model, and the model to everybody.
    let masked = answer.get().replace(token.expose(), MASK);
    let read: Value = serde_json::from_str(&masked)
        .map_err(|error| Failed::new(CallFailure::NotJson, format!("its answer is no JSON: {error}")))?;
    // With some of its characters escaped it would be read all the same.
    let read = read.to_string();
    Ok(if read.contains(token.expose()) { read.replace(token.expose(), MASK) } else { masked })
}
