//! `http`: one POST to a mentor that is a program of its own. The answer is the output.
//!
//! The request goes to `base_url` as it stands. Its body:
//!
//! ```json
//! {
//!   "prompt": "What happened since yesterday?",
//!   "system_prompt": "You are brief.",
//!   "model": "small", "temperature": 0.2, "max_output_tokens": 500,
//!   "session": {
//!     "session_id": "7f0c…", "log_id": 17951580000001, "run_attempt": 1,
//!     "organisation": "acme", "username": "admin", "agent": 7, "trigger": "schedule",
//!     "fire_time": "2026-11-21T09:00:00.000Z", "nominal_time": "2026-11-21T09:00:00.000Z",
//!     "deadline": "2026-11-21T09:10:00.412Z",
//!     "pathway": "", "parent_session_id": "", "parent_mentor_id": null
//!   }
//! }
//! ```
//!
//! `model`, `temperature` and `max_output_tokens` are there only where the mentor says them. Its headers:
//!
//! - `Authorization: Bearer <session token>`: a JWT made for this run and for the origin of `base_url` (`aud`), to be
//!   verified with the installation's `/.well-known/jwks.json`; it says as whom the run acts and ends with the run.
//! - `Idempotency-Key: <log_id>`: the same whenever this run is asked again, here or after a crash elsewhere.
//! - `X-Api-Key: <API key>`, where there is one.
//! - those of `provider.headers`.
//!
//! The answer is 2xx with JSON, `{"output": "…", "usage": {"prompt_tokens": 12, "completion_tokens": 34}}` (usage is
//! optional, other keys are left alone), or with any other type: then its text is the output. What may pass (408, 429,
//! 5xx, a broken connection) is asked again until the deadline; whatever else is no 2xx ends the run as failed.

use std::sync::Arc;

use async_trait::async_trait;
use model::run::Usage;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::failed::Failed;
use super::patience::Patience;
use super::transport::{Body, Request, Transport, shown, url_of};
use super::{Answer, AskError, Provider, Question};
use crate::OUTPUT_AND_LOG_BYTES_MAX;
use crate::run_log;

pub(super) const KIND: &str = "http";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Asks by one POST.
pub(super) struct Http {
    transport: Arc<Transport>,
}

impl Http {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self { transport }
    }

    async fn post(&self, request: &Request, question: &Question) -> Result<Answer, Failed> {
        question.log.line(format_args!("POST {}", shown(&request.url)));
        read(self.transport.send(request).await?).await
    }
}

#[async_trait]
impl Provider for Http {
    async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let request = request(&question)?;
        let mut patience = Patience::new(&self.transport.clock, KIND, &question);
        loop {
            match self.post(&request, &question).await {
                Ok(answer) => {
                    patience.answered();
                    return Ok(answer);
                }
                Err(failed) => patience.wait_after(failed).await?,
            }
        }
    }
}

fn request(question: &Question) -> Result<Request, Failed> {
    let mut request = Request::new(url_of(&question.settings.base_url)?, question)?;
    if let Some(api_key) = &question.api_key {
        request = request.with_secret(API_KEY, "", api_key.expose())?;
    }
    let mut request = request.with_bearer(question.session_token.expose())?;
    let idempotency_key = HeaderValue::try_from(&question.idempotency_key);
    request.headers.insert(IDEMPOTENCY_KEY, idempotency_key.map_err(|_| Failed::permanent("the log id is no text"))?);
    let written = serde_json::to_vec(&Asked::from(question));
    request.body = written.map_err(|error| Failed::permanent(format!("the question cannot be written: {error}")))?;
    Ok(request)
}

async fn read(mut body: Body<'_>) -> Result<Answer, Failed> {
    let is_json = body.is_json();
    let (bytes, goes_on) = body.read(OUTPUT_AND_LOG_BYTES_MAX).await?;
    if !is_json {
        let output = String::from_utf8_lossy(&bytes).into_owned();
        return Ok(Answer { output, goes_on, usage: Usage::default() });
    }
    if goes_on {
        let text = format!("the answer is JSON of more than {OUTPUT_AND_LOG_BYTES_MAX} bytes: more is not read");
        return Err(Failed::permanent(text));
    }
    let answered: Answered = serde_json::from_slice(&bytes)
        .map_err(|error| Failed::permanent(format!("the answer is no JSON with a text as `output`: {error}")))?;
    Ok(Answer { output: answered.output, goes_on: false, usage: answered.usage.unwrap_or_default().into() })
}

/// The body of the request.
#[derive(Serialize)]
struct Asked<'a> {
    prompt: &'a str,
    system_prompt: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<i64>,
    session: Session<'a>,
}

#[derive(Serialize)]
struct Session<'a> {
    session_id: &'a str,
    log_id: i64,
    run_attempt: u32,
    organisation: &'a str,
    username: &'a str,
    agent: i64,
    trigger: &'a str,
    fire_time: String,
    nominal_time: String,
    deadline: String,
    pathway: &'a str,
    parent_session_id: &'a str,
    parent_mentor_id: Option<i64>,
}

impl<'a> From<&'a Question> for Asked<'a> {
    fn from(question: &'a Question) -> Self {
        let (run, settings) = (&question.run, &question.settings);
        let session = Session {
            session_id: &question.session_id,
            log_id: run.id.0,
            run_attempt: run.run_attempt,
            organisation: &run.organisation.0,
            username: &question.username,
            agent: run.agent_id.0,
            trigger: run.trigger.as_str(),
            fire_time: run_log::shown(run.fire_time),
            nominal_time: run_log::shown(run.nominal_time),
            deadline: run_log::shown(question.deadline),
            pathway: &question.pathway,
            parent_session_id: &question.parent_session_id,
            parent_mentor_id: question.parent_mentor_id,
        };
        Self {
            prompt: &question.prompt,
            system_prompt: &question.system_prompt,
            model: &settings.model,
            temperature: settings.temperature,
            max_output_tokens: settings.max_output_tokens,
            session,
        }
    }
}

/// The body of an answer.
#[derive(Deserialize)]
struct Answered {
    output: String,
    usage: Option<Counted>,
}

/// Tokens, as a server counted them; whatever it leaves out is zero.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Counted {
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
}

impl From<Counted> for Usage {
    fn from(counted: Counted) -> Self {
        let tokens = |count: Option<i64>| count.unwrap_or_default().max(0);
        Self { prompt_tokens: tokens(counted.prompt_tokens), completion_tokens: tokens(counted.completion_tokens) }
    }
}
