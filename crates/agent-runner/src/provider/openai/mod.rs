//! `openai`: any OpenAI-compatible `POST {base_url}/chat/completions`, hosted or at home.
//!
//! The answer is asked for as a stream, so that a connection that has died is noticed while the model speaks; a server
//! that answers whole is understood too. With neither system prompt nor prompt empty, one is the `system` message and
//! the other the `user` message; a mentor that is asked with its system prompt alone is asked with it as the `user`
//! message, since most chat templates answer nothing else.
//!
//! The limit of an answer is sent as `max_tokens`: that name is deprecated by OpenAI, but the only one that every
//! compatible server knows, and a server that does not know a limit's name answers without limit. A server that
//! refuses it in favour of `max_completion_tokens` is asked again with that one; one that refuses `stream_options`,
//! without, and then tokens may not be counted.
//!
//! Services are offered as `tools`. A model that calls some is asked again with their answers, until it answers itself:
//! after eight such rounds it is told by `tool_choice` to call no more, and if it does, the run fails. A server that
//! knows no tools is asked again without.

mod conversation;
mod few;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use model::run::Usage;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use serde::Serialize;
use url::Url;

use self::conversation::{Conversation, Message, Tool};
use self::few::Few;
use self::reply::{Call, Completion, Reply};
use super::failed::Failed;
use super::patience::Patience;
use super::sse::{Decoder, TooLarge};
use super::transport::{Body, Request, Transport, shown, url_of};
use super::{Answer, AskError, Provider, Question};
use crate::OUTPUT_AND_LOG_BYTES_MAX;

pub(super) const KIND: &str = "openai";

/// How often a model may call services and be asked again.
const ROUNDS_MAX: usize = 8;

/// Most calls of one turn that are made at a time.
const AT_ONCE_MAX: usize = 8;

/// How long a server may take to end its stream once the model has finished: it may have the tokens to count yet, and
/// some never end it.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a stream ends with.
const DONE: &[u8] = b"[DONE]";

/// The most bytes of a stream: each token comes in some hundred bytes of JSON.
const STREAM_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Asks an OpenAI-compatible server.
pub(super) struct OpenAi {
    transport: Arc<Transport>,
}

impl OpenAi {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self { transport }
    }

    /// Asks once, again and again while what fails may pass.
    async fn turn(
        &self,
        request: &mut Request,
        conversation: &Conversation,
        spelling: &mut Spelling,
        question: &Question,
    ) -> Result<Reply, AskError> {
        let mut patience = Patience::new(&self.transport.clock, KIND, question);
        loop {
            request.body = spelling.body(conversation, question)?;
            let failed = match self.post(request, question).await {
                Ok(reply) => {
                    patience.answered();
                    question.log.line(reply.ending());
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            match spelling.without_what_is_refused(&failed) {
                Some(simpler) => {
                    question.log.line(format_args!("{}; asking again without that parameter", failed.text));
                    *spelling = simpler;
                }
                None => patience.wait_after(failed).await?,
            }
        }
    }

    async fn post(&self, request: &Request, question: &Question) -> Result<Reply, Failed> {
        question.log.line(format_args!("POST {}, model `{}`", shown(&request.url), question.settings.model));
        let body = self.transport.send(request).await?;
        let streams = body.content_type() == "text/event-stream";
        question.log.line(if streams { "the answer begins, as a stream" } else { "the answer begins" });
        if streams { read_stream(body, request).await } else { read_whole(body, request).await }
    }
}

#[async_trait]
impl Provider for OpenAi {
    async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let mut request = request(&question)?;
        let mut conversation = Conversation::new(&question.system_prompt, &question.prompt);
        let mut spelling = Spelling { tools: !question.services.functions().is_empty(), ..Spelling::default() };
        let mut usage = Usage::default();
        for round in 0..=ROUNDS_MAX {
            conversation.calls_may_follow = round < ROUNDS_MAX;
            let reply = self.turn(&mut request, &conversation, &mut spelling, &question).await?;
            usage = reply.added_to(usage);
            if reply.calls.is_empty() || !spelling.tools || reply.goes_on {
                return Ok(Answer { usage, ..reply.into() });
            }
            if conversation.calls_may_follow {
                let answers = call_all(&question, &reply.calls).await;
                conversation.go_on(reply, answers);
            }
        }
        Err(AskError(format!("the model calls services for ever: it went on after {ROUNDS_MAX} rounds of calls")))
    }

    fn calls_services(&self) -> bool {
        true
    }
}

/// The answers to the calls of one turn, which are made side by side.
async fn call_all(question: &Question, calls: &[Call]) -> Vec<String> {
    let answer = |call: &Call| {
        let (services, name, arguments) = (question.services.clone(), call.name.clone(), call.arguments.clone());
        async move { services.call(&name, &arguments).await }
    };
    let answers: Vec<_> = calls.iter().map(answer).collect();
    stream::iter(answers).buffered(AT_ONCE_MAX).collect().await
}

fn request(question: &Question) -> Result<Request, Failed> {
    if question.settings.model.is_empty() {
        return Err(Failed::permanent("the mentor names no model: set its `provider.model` or its `llm_name`"));
    }
    let mut request = Request::new(completions(url_of(&question.settings.base_url)?), question)?;
    request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    match &question.api_key {
        Some(api_key) => request.with_bearer(api_key.expose()),
        None => Ok(request),
    }
}

/// The base URL with `chat/completions` behind its path; its query stays, for those who put a version there.
fn completions(mut url: Url) -> Url {
    // An http URL always has a path.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["chat", "completions"]);
    }
    url
}

/// How a request says what not every server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spelling {
    /// Offer the services.
    tools: bool,
    /// Ask for the tokens to be counted, in the last event of the stream.
    include_usage: bool,
    /// Say `max_completion_tokens` instead of `max_tokens`.
    new_limit: bool,
}

impl Default for Spelling {
    fn default() -> Self {
        Self { tools: false, include_usage: true, new_limit: false }
    }
}

impl Spelling {
    /// Another spelling, if it is this one that the server refuses.
    fn without_what_is_refused(self, failed: &Failed) -> Option<Self> {
        let refuses = |name: &str| failed.text.contains(name);
        match failed.status {
            Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {}
            _ => return None,
        }
        if self.include_usage && refuses("stream_options") {
            return Some(Self { include_usage: false, ..self });
        }
        if !self.new_limit && refuses("max_completion_tokens") {
            return Some(Self { new_limit: true, ..self });
        }
        if self.tools && (refuses("tool") || refuses("function")) {
            return Some(Self { tools: false, ..self });
        }
        None
    }

    fn body(self, conversation: &Conversation, question: &Question) -> Result<Vec<u8>, Failed> {
        let settings = &question.settings;
        let limit = settings.max_output_tokens;
        let body = Asked {
            model: &settings.model,
            messages: &conversation.messages,
            tools: if self.tools { question.services.functions().iter().map(Tool::from).collect() } else { Vec::new() },
            tool_choice: (self.tools && !conversation.calls_may_follow).then_some("none"),
            temperature: settings.temperature,
            max_tokens: limit.filter(|_| !self.new_limit),
            max_completion_tokens: limit.filter(|_| self.new_limit),
            stream: true,
            stream_options: self.include_usage.then_some(StreamOptions { include_usage: true }),
        };
        serde_json::to_vec(&body).map_err(|error| Failed::permanent(format!("the question cannot be written: {error}")))
    }
}

async fn read_whole(mut body: Body<'_>, request: &Request) -> Result<Reply, Failed> {
    let content_type = body.content_type();
    let (bytes, goes_on) = body.read(OUTPUT_AND_LOG_BYTES_MAX).await?;
    if goes_on {
        let text =
            format!("the answer is no stream, and larger than {OUTPUT_AND_LOG_BYTES_MAX} bytes: more is not read");
        return Err(Failed::permanent(text));
    }
    let completion: Completion = serde_json::from_slice(&bytes).map_err(|error| {
        let said = request.shorten(&String::from_utf8_lossy(&bytes));
        Failed::permanent(format!("the answer (`{content_type}`) is no chat completion, {error}: {said}"))
    })?;
    let mut reply = Reply::default();
    let has_choice = completion.choices.as_ref().is_some_and(|Few(choices)| !choices.is_empty());
    reply.take(completion, request)?;
    if !has_choice {
        let said = request.shorten(&String::from_utf8_lossy(&bytes));
        return Err(Failed::permanent(format!("the answer has no choice in it: {said}")));
    }
    Ok(reply)
}

async fn read_stream(mut body: Body<'_>, request: &Request) -> Result<Reply, Failed> {
    let (mut decoder, mut events, mut read) = (Decoder::default(), Vec::new(), 0_usize);
    let mut reply = Reply::default();
    loop {
        let chunk = match body.chunk().await {
            Ok(chunk) => chunk,
            // The model had finished: only the count of its tokens is lost.
            Err(_) if reply.finish_reason.is_some() => return Ok(reply),
            Err(failed) => return Err(failed),
        };
        let Some(chunk) = chunk else { break };
        let before = reply.bytes();
        read += chunk.as_ref().len();
        body.hold(before + decoder.bytes() + chunk.as_ref().len()).await;
        decoder.push(chunk.as_ref(), &mut events).map_err(|TooLarge| {
            Failed::permanent(format!("an event of the answer is larger than {OUTPUT_AND_LOG_BYTES_MAX} bytes"))
        })?;
        for event in events.drain(..) {
            if event == DONE {
                return Ok(reply);
            }
            reply.take(parse(&event, request)?, request)?;
        }
        // Some servers say in every event why the model has finished: as long as more comes, it has not.
        match reply.finish_reason {
            Some(_) if reply.bytes() == before => body.end_within(LAST_WORDS),
            _ => body.end_at_will(),
        }
        if reply.bytes() > OUTPUT_AND_LOG_BYTES_MAX || read > STREAM_BYTES_MAX {
            reply.goes_on = true;
            return Ok(reply);
        }
    }
    let last = decoder.finish().unwrap_or_default();
    if let Ok(completion) = serde_json::from_slice(&last) {
        reply.take(completion, request)?;
    }
    if last == DONE || reply.finish_reason.is_some() {
        return Ok(reply);
    }
    Err(Failed::transient("the answer broke off: its stream ended before the model had finished"))
}

fn parse(event: &[u8], request: &Request) -> Result<Completion, Failed> {
    serde_json::from_slice(event).map_err(|error| {
        let said = request.shorten(&String::from_utf8_lossy(event));
        Failed::permanent(format!("an event of the answer is no chat completion, {error}: {said}"))
    })
}

/// The body of a request.
#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<i64>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}
