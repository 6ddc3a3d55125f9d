//! What an OpenAI-compatible server answers, whole or in parts, and what becomes of it.

use model::run::Usage;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::provider::Answer;
use crate::provider::complaint;
use crate::provider::failed::{Failed, is_transient};
use crate::provider::http::Counted;
use crate::provider::transport::Request;

/// What came of one request, as far as it is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) output: String,
    pub(super) goes_on: bool,
    pub(super) finish_reason: Option<String>,
    usage: Option<Usage>,
}

impl Reply {
    /// Takes a whole answer or the next part of one.
    pub(super) fn take(&mut self, completion: Completion, request: &Request) -> Result<(), Failed> {
        if let Some(error) = completion.error.filter(|error| !error.is_null()) {
            return Err(of_error_object(&error, request));
        }
        if let Some(counted) = completion.usage {
            self.usage = Some(counted.into());
        }
        for choice in completion.choices.unwrap_or_default().into_iter().filter(|choice| choice.index == 0) {
            if let Some(said) = choice.delta.or(choice.message) {
                self.output.push_str(&said.content.unwrap_or_default());
                // What a model says when it will not answer is its answer.
                self.output.push_str(&said.refusal.unwrap_or_default());
            }
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(())
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

/// A whole answer, or an event of a stream.
#[derive(Deserialize)]
pub(super) struct Completion {
    pub(super) choices: Option<Vec<Choice>>,
    usage: Option<Counted>,
    error: Option<Value>,
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
}
