//! One delivery attempt on the wire: a POST, one deadline over all of it, and what came of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response};
use service_kit::egress::{Guard, GuardedClient};
use service_kit::error::chain;
use service_kit::traces::Place;
use tokio::time::{Instant, timeout_at};
use url::Url;
use uuid::Uuid;

use crate::outcome::{self, ANSWER_BYTES_MAX, Outcome};
use crate::secrets::Opened;
use crate::signature::standard;
use crate::words::OutcomeClass;
use crate::{encryption, schedule, signature};

const HUB_SIGNATURE: HeaderName = HeaderName::from_static(signature::HEADER);
const WEBHOOK_ID: HeaderName = HeaderName::from_static(standard::ID_HEADER);
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static(standard::TIMESTAMP_HEADER);
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static(standard::SIGNATURE_HEADER);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What is said of an answer that takes too long.
const UNENDED: &str = "the answer did not end before the deadline";

/// Sends callbacks. Its client vets every address at every delivery attempt, follows no redirect and unpacks no
/// compressed answer, so that what is counted of it is what it is.
pub(crate) struct Transport {
    client: GuardedClient,
    deadline: Duration,
}

/// What is sent.
pub(crate) struct Callback<'a> {
    pub(crate) webhook_id: Uuid,
    /// Where it is in its trace.
    pub(crate) place: Place,
    pub(crate) url: &'a str,
    pub(crate) secrets: &'a Opened,
    pub(crate) encrypt: bool,
    pub(crate) signature_only_hub: bool,
    pub(crate) now: DateTime<Utc>,
    pub(crate) body: String,
}

impl Transport {
    /// # Errors
    ///
    /// The TLS library cannot start.
    pub(crate) fn new(guard: &Guard, deadline: Duration) -> Result<Self, reqwest::Error> {
        // The client's own limit is only a backstop: which of the two speaks would otherwise be a matter of luck.
        Ok(Self { client: guard.client(deadline + Duration::from_secs(1))?, deadline })
    }

    /// Sends a callback and reads the answer, until the deadline at most. None: when all was ready to be sent, it was
    /// not to be sent any more.
    pub(crate) async fn post(&self, callback: Callback<'_>, may_send: impl Fn() -> bool) -> Option<Outcome> {
        let deadline = Instant::now() + self.deadline;
        let now = callback.now;
        let sent = async {
            let request = self.request(callback).await?;
            // Names may take long to resolve, and a process that stands still does not notice.
            if Instant::now() >= deadline || !may_send() {
                return Ok(None);
            }
            request.send().await.map(Some).map_err(|error| {
                let error = error.without_url();
                Outcome::failure(outcome::of_error(&error), &chain(&error))
            })
        };
        Some(match timeout_at(deadline, sent).await {
            Err(_elapsed) => Outcome::failure(OutcomeClass::Timeout, "no answer before the deadline"),
            Ok(Err(outcome)) => outcome,
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(answer))) => read(answer, deadline, now).await,
        })
    }

    async fn request(&self, mut callback: Callback<'_>) -> Result<RequestBuilder, Outcome> {
        // A parse error never repeats the URL.
        let url = Url::parse(callback.url)
            .map_err(|error| Outcome::failure(OutcomeClass::BadUrl, &format!("the URL cannot be read: {error}")))?;
        let content_type = encrypt(&mut callback)?;
        let request = self
            .client
            .vetted_request(Method::POST, &url)
            .await
            .map_err(|refusal| Outcome::failure(outcome::of_refusal(&refusal), &chain(&refusal)))?
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT_ENCODING, "identity")
            .header(TRACEPARENT, callback.place.traceparent());
        Ok(sign(request, &callback).body(callback.body))
    }
}

/// Encrypts the body if that is wanted; what type it has then.
fn encrypt(callback: &mut Callback<'_>) -> Result<&'static str, Outcome> {
    if !callback.encrypt {
        return Ok("application/json");
    }
    let failed = |why: &str| Outcome::failure(OutcomeClass::SecretUnreadable, why);
    let secret = callback.secrets.sole();
    let secret = secret.ok_or_else(|| failed("the payload is to be encrypted, but there is no callback secret"))?;
    let encrypted = encryption::encrypt(secret, callback.body.as_bytes());
    callback.body = encrypted.map_err(|error| failed(&error.to_string()))?;
    Ok(encryption::CONTENT_TYPE)
}

/// Adds the id, and the signatures of both dialects.
fn sign(request: RequestBuilder, callback: &Callback<'_>) -> RequestBuilder {
    let (id, body) = (callback.webhook_id.to_string(), callback.body.as_bytes());
    let request = match callback.secrets.sole() {
        Some(secret) => request.header(HUB_SIGNATURE, signature::sign(secret, body)),
        None => request,
    };
    let at = callback.now.timestamp();
    let signatures: Vec<String> = callback.secrets.all().map(|secret| standard::sign(secret, &id, at, body)).collect();
    let request = request.header(WEBHOOK_ID, id);
    if callback.signature_only_hub {
        return request;
    }
    let request = request.header(WEBHOOK_TIMESTAMP, at.to_string());
    if signatures.is_empty() { request } else { request.header(WEBHOOK_SIGNATURE, signatures.join(" ")) }
}

/// Reads as much of an answer as is worth it: its end frees the connection for the next callback.
async fn read(mut answer: Response, deadline: Instant, now: DateTime<Utc>) -> Outcome {
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| schedule::retry_after(value, now));
    let mut body = Vec::new();
    let error = loop {
        match timeout_at(deadline, answer.chunk()).await {
            // Of what always has more, if nothing in it, no time limit hears.
            Ok(Ok(Some(_))) if Instant::now() >= deadline => break Some(UNENDED),
            Ok(Ok(Some(chunk))) => {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == ANSWER_BYTES_MAX {
                    break None;
                }
            }
            Ok(Ok(None)) => break None,
            Ok(Err(_broken)) => break Some("the answer broke off"),
            Err(_elapsed) => break Some(UNENDED),
        }
    };
    Outcome::answer(status, &body, error, retry_after)
}
