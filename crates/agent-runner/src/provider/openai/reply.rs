//! What an OpenAI-compatible server answers, whole or in parts, and what becomes of it.

use model::run::Usage;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::few::Few;
use crate::provider::Answer;
use crate::provider::complaint;
use crate::provider::failed::{Failed, is_transient};
use crate::provider::http::Counted;
use crate::provider::transport::Request;
use crate::services::CALLS_MAX;

/// Most bytes of the arguments of a call: read, they take many times as much.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of an error that are read as JSON.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// What came of one request, as far as it is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) output: String,
    pub(super) goes_on: bool,
    pub(super) finish_reason: Option<String>,
    /// What the model wants to be called, in order.
    pub(super) calls: Vec<Call>,
    usage: Option<Usage>,
}

/// A function that the model calls, as far as it is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// Which of the reply's calls; not every server says.
    index: Option<i64>,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, as the model wrote it.
    pub(super) arguments: String,
}

impl Reply {
    /// Takes a whole answer or the next part of one.
    pub(super) fn take(&mut self, completion: Completion, request: &Request) -> Result<(), Failed> {
        if let Some(error) = completion.error {
            return Err(of_error_object(&read_error(error.get()), request));
        }
        if let Some(counted) = completion.usage {
            self.usage = Some(counted.into());
        }
        let choices = completion.choices.map(|Few(choices)| choices).unwrap_or_default();
        for choice in choices.into_iter().filter(|choice| choice.index == 0) {
            if let Some(said) = choice.delta.or(choice.message) {
                self.output.push_str(&said.content.unwrap_or_default());
                // What a model says when it will not answer is its answer.
                self.output.push_str(&said.refusal.unwrap_or_default());
                let calls = said.tool_calls.map(|Few(calls)| calls).unwrap_or_default();
                calls.into_iter().try_for_each(|part| self.take_call(part))?;
            }
            let finish_reason = choice.finish_reason.filter(|reason| !reason.is_empty());
            self.finish_reason = finish_reason.or(self.finish_reason.take());
        }
        Ok(())
    }

    /// Takes a call or the next part of one: a part belongs to the call with its index, else with its id, else to the
    /// last.
    fn take_call(&mut self, part: CallPart) -> Result<(), Failed> {
        let CallPart { index, id, function } = part;
        let id = id.unwrap_or_default();
        let known = match index {
            Some(_) => self.calls.iter().position(|call| call.index == index),
            None if id.is_empty() => self.calls.len().checked_sub(1),
            None => self.calls.iter().position(|call| call.id == id),
        };
        let place = known.unwrap_or(self.calls.len());
        if place == CALLS_MAX {
            let text = format!("the model makes more than {CALLS_MAX} calls of services at once: too many");
            return Err(Failed::permanent(text));
        }
        if place == self.calls.len() {
            self.calls.push(Call { index, ..Call::default() });
        }
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            call.id = id;
        }
        let Some(function) = function else { return Ok(()) };
        // Some servers repeat the name in every part.
        if let Some(name) = function.name.filter(|name| *name != call.name) {
            call.name.push_str(&name);
        }
        match function.arguments.map(|raw| serde_json::from_str(raw.get()).map_err(|_| raw)) {
            None => {}
            Some(Ok(Text(text))) => call.arguments.push_str(&text),
            Some(Err(damaged)) if damaged.get().starts_with('"') => {
                return Err(Failed::permanent("the arguments of a call are damaged: their text cannot be read"));
            }
            Some(Err(whole)) => call.arguments = Box::<str>::from(whole).into(),
        }
        if call.arguments.len() > ARGUMENTS_BYTES_MAX {
            let text = format!("the arguments of a call are larger than {ARGUMENTS_BYTES_MAX} bytes");
            return Err(Failed::permanent(text));
        }
        Ok(())
    }

    /// How much of it there is.
    pub(super) fn bytes(&self) -> usize {
        let of = |call: &Call| size_of::<Call>() + call.id.len() + call.name.len() + call.arguments.len();
        self.output.len() + self.calls.iter().map(of).sum::<usize>()
    }

    /// The tokens of this reply and of those before it.
    pub(super) fn added_to(&self, before: Usage) -> Usage {
        let Usage { prompt_tokens, completion_tokens } = self.usage.unwrap_or_default();
        Usage {
            prompt_tokens: before.prompt_tokens.saturating_add(prompt_tokens),
            completion_tokens: before.completion_tokens.saturating_add(completion_tokens),
        }
    }

    /// The line of the log that says how the answer ended.
    pub(super) fn ending(&self) -> String {
        let tokens = match self.usage {
            Some(Usage { prompt_tokens, completion_tokens }) => {
                format!("{prompt_tokens} tokens asked, {completion_tokens} answered")
            }
            None => "tokens were not counted".to_owned(),
        };
        if self.goes_on {
            return format!("the answer goes on beyond what is kept, and is not read any further; {tokens}");
        }
        if !self.calls.is_empty() {
            return format!("the model calls {} functions; {tokens}", self.calls.len());
        }
        match self.finish_reason.as_deref() {
            Some("length") => format!("the answer ends where its limit of tokens is (`length`); {tokens}"),
            Some("content_filter") => format!("the provider's filter cut the answer (`content_filter`); {tokens}"),
            Some(reason) => format!("the answer is complete (`{reason}`); {tokens}"),
            None => format!("the answer is complete; {tokens}"),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { output: reply.output, goes_on: reply.goes_on, usage: reply.usage.unwrap_or_default() }
    }
}

/// What is too long to be read as JSON is its own words.
fn read_error(text: &str) -> Value {
    let read = (text.len() <= ERROR_BYTES_MAX).then(|| serde_json::from_str(text).ok()).flatten();
    read.unwrap_or_else(|| Value::String(text[..text.floor_char_boundary(ERROR_BYTES_MAX)].to_owned()))
}

/// A failure that comes with 200, often in the midst of a stream. Its `code` may be a status, its `type` says more.
fn of_error_object(error: &Value, request: &Request) -> Failed {
    let said = request.shorten(&complaint::of_json(error));
    let text = format!("the provider failed while it answered: {said}");
    let code = match &error["code"] {
        Value::Number(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        Value::String(code) => code.parse().ok(),
        _ => None,
    };
    let passes = match code.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(status) => is_transient(status),
        None => error["type"].as_str().is_some_and(|kind| {
            ["server_error", "overloaded", "rate_limit", "timeout"].iter().any(|word| kind.contains(word))
        }),
    };
    if passes { Failed::transient(text) } else { Failed::permanent(text) }
}

/// A whole answer, or an event of a stream. In memory it is not much larger than it came.
#[derive(Deserialize)]
pub(super) struct Completion {
    pub(super) choices: Option<Few<Choice>>,
    usage: Option<Counted>,
    error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    index: i64,
    /// Of an event.
    delta: Option<Said>,
    /// Of a whole answer.
    message: Option<Said>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Few<CallPart>>,
}

/// A call, or a part of one.
#[derive(Deserialize)]
struct CallPart {
    index: Option<i64>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize)]
struct FunctionPart {
    name: Option<String>,
    /// Text; from some servers, the object itself.
    arguments: Option<Box<RawValue>>,
}

/// A string, and nothing else.
#[derive(Deserialize)]
struct Text(String);
