//! One delivery attempt on the wire: a POST, one deadline over all of it, and what came of it.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response};
use service_kit::egress::{Guard, GuardedClient};
use service_kit::error::chain;
use tokio::time::{Instant, timeout_at};
use url::Url;
use uuid::Uuid;

use crate::outcome::{self, ANSWER_BYTES_MAX, Outcome};
use crate::signature;
use crate::words::OutcomeClass;

/// The header that names a callback, the same at every delivery attempt.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const SIGNATURE: HeaderName = HeaderName::from_static(signature::HEADER);

/// Sends callbacks. Its client vets every address, follows no redirect and unpacks no compressed answer.
pub(crate) struct Transport {
    client: GuardedClient,
    deadline: Duration,
}

/// What is sent.
pub(crate) struct Callback<'a> {
    pub(crate) webhook_id: Uuid,
    pub(crate) url: &'a str,
    /// None: it is not signed.
    pub(crate) secret: Option<&'a [u8]>,
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

    /// Sends a callback and reads the answer, until the deadline at most.
    pub(crate) async fn post(&self, callback: Callback<'_>) -> Outcome {
        let deadline = Instant::now() + self.deadline;
        let request = match self.request(callback) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        match timeout_at(deadline, request.send()).await {
            Err(_elapsed) => Outcome::failure(OutcomeClass::Timeout, "no answer before the deadline"),
            Ok(Err(error)) => {
                let error = error.without_url();
                Outcome::failure(outcome::of_error(&error), &chain(&error))
            }
            Ok(Ok(answer)) => read(answer, deadline).await,
        }
    }

    fn request(&self, callback: Callback<'_>) -> Result<reqwest::RequestBuilder, Outcome> {
        // A parse error never repeats the URL.
        let url = Url::parse(callback.url)
            .map_err(|error| Outcome::failure(OutcomeClass::BadUrl, &format!("the URL cannot be read: {error}")))?;
        let request = self
            .client
            .request(Method::POST, &url)
            .map_err(|refusal| Outcome::failure(outcome::of_refusal(&refusal), &chain(&refusal)))?
            .header(CONTENT_TYPE, "application/json")
            .header(WEBHOOK_ID, callback.webhook_id.to_string());
        let request = match callback.secret {
            Some(secret) => request.header(SIGNATURE, signature::sign(secret, callback.body.as_bytes())),
            None => request,
        };
        Ok(request.body(callback.body))
    }
}

/// Reads as much of an answer as is worth it: its end frees the connection for the next callback.
async fn read(mut answer: Response, deadline: Instant) -> Outcome {
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let error = loop {
        match timeout_at(deadline, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == ANSWER_BYTES_MAX {
                    break None;
                }
            }
            Ok(Ok(None)) => break None,
            Ok(Err(_broken)) => break Some("the answer broke off"),
            Err(_elapsed) => break Some("the answer did not end before the deadline"),
        }
    };
    Outcome::answer(status, &body, error)
}
