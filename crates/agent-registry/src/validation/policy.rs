//! What a request says about an agent beyond the original's fields: how its ticks are kept, and what its endpoint gets.
//!
//! In all of them null means the default. Whether the values go together is decided in `rules`, where what was stored
//! before is known.

use chrono::{DateTime, Utc};
use model::document::{CallbackOn, CatchUp, OverlapPolicy};
use serde_json::Value;

use super::fields::Fields;

/// The longest that a run may take.
pub(crate) const TIMEOUT_SECONDS_MAX: i64 = 1_500;
/// A day.
const JITTER_SECONDS_MAX: i64 = 86_400;
/// A year.
const CATCH_UP_WINDOW_SECONDS_MAX: i64 = 31_536_000;
const ATTEMPTS_MAX: i64 = 100;
pub(crate) const OVERLAP_POLICIES: [&str; 4] = ["allow", "skip", "queue_one", "cancel_running"];
pub(crate) const CATCH_UPS: [&str; 3] = ["none", "latest", "all"];

/// How the ticks of a schedule are kept; an inner none is the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyInput {
    pub(crate) end_time: Option<Option<DateTime<Utc>>>,
    pub(crate) jitter_seconds: Option<Option<i32>>,
    pub(crate) overlap_policy: Option<Option<OverlapPolicy>>,
    pub(crate) catch_up: Option<Option<CatchUp>>,
    pub(crate) catch_up_window_seconds: Option<Option<i32>>,
    pub(crate) max_attempts: Option<Option<i32>>,
    pub(crate) timeout_seconds: Option<Option<i32>>,
}

impl PolicyInput {
    /// Reads the fields of `task`.
    pub(super) fn read(task: &Fields<'_>) -> Self {
        Self {
            end_time: task.datetime("end_time"),
            jitter_seconds: number(task, "jitter_seconds", 0, JITTER_SECONDS_MAX),
            overlap_policy: word(task, "overlap_policy", &OVERLAP_POLICIES),
            catch_up: word(task, "catch_up", &CATCH_UPS),
            catch_up_window_seconds: number(task, "catch_up_window_seconds", 1, CATCH_UP_WINDOW_SECONDS_MAX),
            max_attempts: number(task, "max_attempts", 1, ATTEMPTS_MAX),
            timeout_seconds: number(task, "timeout_seconds", 1, TIMEOUT_SECONDS_MAX),
        }
    }
}

/// What an endpoint is told, and how; an inner none is the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointInput {
    pub(crate) callback_on: Option<CallbackOn>,
    pub(crate) encrypt: Option<bool>,
    pub(crate) signature_only_hub: Option<bool>,
}

impl EndpointInput {
    /// Reads `callback_on` and `callback_options`.
    pub(super) fn read(agent: &Fields<'_>) -> Self {
        let options = agent.nullable_object("callback_options");
        let flag = |name: &str| match &options {
            None => None,
            Some(None) => Some(false),
            Some(Some(options)) => match options.raw(name)? {
                Value::Null => Some(false),
                _ => options.boolean(name),
            },
        };
        Self {
            callback_on: read_callback_on(agent),
            encrypt: flag("encrypt"),
            signature_only_hub: flag("signature_only_hub"),
        }
    }
}

fn read_callback_on(agent: &Fields<'_>) -> Option<CallbackOn> {
    let items = match agent.raw("callback_on")? {
        Value::Null => return Some(CallbackOn::default()),
        Value::Array(items) => items,
        other => {
            let kind = super::fields::python_type(other);
            agent.fault("callback_on", format!("Expected a list of items but got type \"{kind}\"."));
            return None;
        }
    };
    let mut callback_on = CallbackOn { runs: false, skipped: false };
    for item in items {
        match item.as_str() {
            Some("runs") => callback_on.runs = true,
            Some("skipped") => callback_on.skipped = true,
            _ => {
                let item = super::fields::python_text(item);
                agent.fault("callback_on", format!("\"{item}\" is not a valid choice."));
                return None;
            }
        }
    }
    if items.is_empty() {
        agent.fault("callback_on", "This list may not be empty. To be called back for nothing, empty `callback_url`.");
        return None;
    }
    Some(callback_on)
}

/// A whole number within bounds that are those of an `i32` at most.
fn number(fields: &Fields<'_>, name: &str, min: i64, max: i64) -> Option<Option<i32>> {
    let Some(number) = fields.integer(name)? else { return Some(None) };
    if number < min {
        fields.fault(name, format!("Ensure this value is greater than or equal to {min}."));
        return None;
    }
    if number > max {
        fields.fault(name, format!("Ensure this value is less than or equal to {max}."));
        return None;
    }
    i32::try_from(number).ok().map(Some)
}

fn word<T: std::str::FromStr>(fields: &Fields<'_>, name: &str, words: &[&'static str]) -> Option<Option<T>> {
    if fields.raw(name)?.is_null() {
        return Some(None);
    }
    fields.choice(name, words)?.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_documents_can_be_written() {
        assert!(OverlapPolicy::ALL.iter().map(|word| word.as_str()).eq(OVERLAP_POLICIES));
        assert!(CatchUp::ALL.iter().map(|word| word.as_str()).eq(CATCH_UPS));
    }
}
