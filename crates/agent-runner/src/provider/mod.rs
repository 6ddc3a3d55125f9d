//! Providers: the ways in which a mentor is asked.
//!
//! A provider is one file here, behind [`Provider`], and one line in `built_in`. It needs to know nothing of the bus,
//! of time-outs or of cancelling: the run that asks drops the future when its time is over, and a panic ends only that
//! run. What it must do itself: read no more than it can use, retry what is transient within
//! [`Question::deadline`], write what happens into [`Question::log`], and keep secrets out of it. Providers that speak
//! HTTP share how: `transport` (where requests may go, what they carry), `failed` (whether asking again may help),
//! `patience` (when to ask again).

pub(crate) mod complaint;
mod echo;
mod failed;
mod http;
mod openai;
mod patience;
mod sse;
mod transport;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::run::{Run, Usage};
use service_kit::secrets::Secret;

pub(crate) use self::transport::{Transport, shown};
use crate::run_log::RunLog;
use crate::services::Services;
use crate::slots::Room;
use crate::trace::Trace;

/// A way in which a mentor is asked.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Asks, and waits for the whole answer. The future may be dropped at any await.
    ///
    /// # Errors
    ///
    /// There is no answer, and asking again within the deadline would bring none.
    async fn ask(&self, question: Question) -> Result<Answer, AskError>;

    /// Whether it lets the mentor's model call [`Question::services`].
    fn calls_services(&self) -> bool {
        false
    }
}

/// All that a provider may know of the run that it answers. At least one of the two prompts says something.
pub struct Question {
    /// Which run asks.
    pub run: Run,
    /// What the mentor is told before every prompt; may be empty.
    pub system_prompt: String,
    /// What it is asked; may be empty.
    pub prompt: String,
    /// How it is asked.
    pub settings: ModelSettings,
    /// The provider's API key, in clear; none: there is none.
    pub api_key: Option<Secret<String>>,
    /// Shows to whoever is asked as whom this run acts. Its audience is the origin of [`ModelSettings::base_url`].
    pub session_token: Secret<String>,
    /// The id in that token.
    pub session_id: String,
    /// The user as whom the run acts.
    pub username: String,
    /// The collection that the mentor uses; opaque.
    pub pathway: String,
    /// The chat session that created the agent; opaque.
    pub parent_session_id: String,
    /// The mentor that created the agent; opaque.
    pub parent_mentor_id: Option<i64>,
    /// The same whenever this run is asked again: its log id.
    pub idempotency_key: String,
    /// Nobody waits for the answer any longer than this.
    pub deadline: DateTime<Utc>,
    /// What the model may call; none, unless the provider [calls services](Provider::calls_services).
    pub services: Services,
    /// The run's log, for what happens on the way.
    pub log: RunLog,
    /// Whether more of the answer may be read.
    pub(crate) room: Room,
    /// Where the run's trace goes on.
    pub(crate) trace: Trace,
}

/// How a mentor is asked, beside what it is asked. Empty: the provider's own default.
#[derive(Clone, Default, PartialEq)]
pub struct ModelSettings {
    /// Where it answers.
    pub base_url: String,
    /// Who says that it answers there.
    pub url_owner: UrlOwner,
    /// The model's name there.
    pub model: String,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<i64>,
    /// Sent along with each request; may hold credentials.
    pub headers: BTreeMap<String, String>,
}

/// Who chose where a mentor answers, which decides where that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UrlOwner {
    /// The mentor's owner: only public addresses, and those in `callbacks.allow_networks`.
    #[default]
    Tenant,
    /// The operator, in `providers`: anywhere.
    Operator,
}

/// What a mentor answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The final answer.
    pub output: String,
    /// It went on, but more is not kept than [`OUTPUT_AND_LOG_BYTES_MAX`](crate::OUTPUT_AND_LOG_BYTES_MAX) bytes, so
    /// more was not read.
    pub goes_on: bool,
    /// What the provider counted.
    pub usage: Usage,
}

/// Why a mentor did not answer: a sentence for the agent's owner, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskError(pub String);

/// Providers by the kind that a mentor names.
pub type Providers = BTreeMap<String, Arc<dyn Provider>>;

/// The kind of the provider that needs nothing but itself.
pub(crate) const ECHO: &str = "echo";

/// The kinds of `built_in`.
pub(crate) const BUILT_IN_KINDS: [&str; 3] = [ECHO, http::KIND, openai::KIND];

/// The providers that every runner has.
pub(crate) fn built_in(transport: &Arc<Transport>) -> Providers {
    let echo: Arc<dyn Provider> = Arc::new(echo::Echo);
    let http: Arc<dyn Provider> = Arc::new(http::Http::new(Arc::clone(transport)));
    let openai: Arc<dyn Provider> = Arc::new(openai::OpenAi::new(Arc::clone(transport)));
    Providers::from([(ECHO.to_owned(), echo), (http::KIND.to_owned(), http), (openai::KIND.to_owned(), openai)])
}
