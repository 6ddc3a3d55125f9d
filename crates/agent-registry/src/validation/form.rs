//! Forms as the original reads them: names with dots for what is nested, and an own meaning for what is absent or empty.
//!
//! A form knows only text, so what a field is decides what its text means. The outcome is the JSON that would have said
//! the same, for the readers that JSON bodies have.

use serde_json::{Map, Value, json};

/// More fields than any form of this API has: a longer one is not read.
pub(crate) const FIELDS_MAX: usize = 1_000;

/// What a field is, as far as a form is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, which may be empty.
    Text,
    /// What an empty value leaves as if it were not given.
    Filled,
    /// What an empty value makes null.
    Nullable,
    /// A checkbox: absent means no, where the object that it stands in is given and the request is not partial.
    Flag,
    /// As many values as there are.
    List,
    /// JSON as text; empty is null.
    Json,
}

/// The fields of a form, by their full names.
pub(crate) type Shape = &'static [(&'static str, Kind)];

/// `PeriodicAgentCreate`.
pub(crate) const AGENT: Shape = &[
    ("mentor", Kind::Text),
    ("title", Kind::Text),
    ("description", Kind::Text),
    ("prompt", Kind::Text),
    ("task.crontab.minute", Kind::Filled),
    ("task.crontab.hour", Kind::Filled),
    ("task.crontab.day_of_week", Kind::Filled),
    ("task.crontab.day_of_month", Kind::Filled),
    ("task.crontab.month_of_year", Kind::Filled),
    ("task.crontab.timezone", Kind::Nullable),
    ("task.one_off", Kind::Flag),
    ("task.start_time", Kind::Nullable),
    ("task.enabled", Kind::Flag),
    ("task.end_time", Kind::Nullable),
    ("task.jitter_seconds", Kind::Nullable),
    ("task.overlap_policy", Kind::Nullable),
    ("task.catch_up", Kind::Nullable),
    ("task.catch_up_window_seconds", Kind::Nullable),
    ("task.max_attempts", Kind::Nullable),
    ("task.timeout_seconds", Kind::Nullable),
    ("pathway", Kind::Text),
    ("callback_url", Kind::Text),
    ("callback_secret", Kind::Text),
    ("callback_on", Kind::List),
    ("callback_options.encrypt", Kind::Flag),
    ("callback_options.signature_only_hub", Kind::Flag),
    ("parent_session_id", Kind::Text),
    ("parent_mentor_id", Kind::Nullable),
    ("previous_agent", Kind::Nullable),
    ("previous_agent_status", Kind::Filled),
];

/// All ways to write a mentor. An object may also stand in one field as JSON, as the npm client sends it.
pub(crate) const MENTOR: Shape = &[
    ("template_name", Kind::Text),
    ("new_mentor_name", Kind::Text),
    ("name", Kind::Text),
    ("unique_id", Kind::Filled),
    ("slug", Kind::Text),
    ("display_name", Kind::Text),
    ("description", Kind::Text),
    ("system_prompt", Kind::Text),
    ("llm_provider", Kind::Text),
    ("llm_name", Kind::Text),
    ("llm_temperature", Kind::Nullable),
    ("metadata", Kind::Json),
    ("service_groups", Kind::List),
    ("provider", Kind::Json),
    ("provider.name", Kind::Text),
    ("provider.kind", Kind::Filled),
    ("provider.base_url", Kind::Text),
    ("provider.model", Kind::Text),
    ("provider.temperature", Kind::Nullable),
    ("provider.max_output_tokens", Kind::Nullable),
    ("provider.api_key", Kind::Text),
    ("provider.headers", Kind::Json),
];

/// A trigger.
pub(crate) const TRIGGER: Shape = &[("prompt", Kind::Text), ("nominal_time", Kind::Nullable)];

/// A rotation of the callback secret.
pub(crate) const ROTATION: Shape = &[("callback_secret", Kind::Text), ("grace_seconds", Kind::Nullable)];

/// An API key.
pub(crate) const API_KEY: Shape =
    &[("name", Kind::Text), ("platform_key", Kind::Text), ("expires_in", Kind::Nullable), ("read_only", Kind::Flag)];

/// An organisation's settings.
pub(crate) const ORGANISATION: Shape = &[
    ("timezone", Kind::Filled),
    ("paused", Kind::Flag),
    ("paused_note", Kind::Text),
    ("catch_up", Kind::Filled),
    ("default_provider", Kind::Text),
    ("limits.agents_max", Kind::Nullable),
    ("limits.runs_in_flight_max", Kind::Nullable),
    ("limits.callbacks_in_flight_max", Kind::Nullable),
    ("limits.requests_per_minute", Kind::Nullable),
    ("retention.logs_days", Kind::Nullable),
    ("retention.ticks_days", Kind::Nullable),
    ("retention.deliveries_days", Kind::Nullable),
    ("alert_url", Kind::Text),
    ("alert_secret", Kind::Text),
];

/// A pause or a resume.
pub(crate) const PAUSE: Shape = &[("note", Kind::Text), ("catch_up", Kind::Filled)];

/// A crontab to preview.
pub(crate) const PREVIEW: Shape = &[
    ("crontab.minute", Kind::Filled),
    ("crontab.hour", Kind::Filled),
    ("crontab.day_of_week", Kind::Filled),
    ("crontab.day_of_month", Kind::Filled),
    ("crontab.month_of_year", Kind::Filled),
    ("crontab.timezone", Kind::Nullable),
    ("timezone", Kind::Nullable),
    ("count", Kind::Nullable),
    ("from", Kind::Nullable),
];

/// A replay of many deliveries.
pub(crate) const REPLAY: Shape =
    &[("periodic_agent", Kind::Nullable), ("since", Kind::Filled), ("status", Kind::Filled)];

/// One field of a form as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Text(String),
    /// A file, which no field of this API takes.
    File,
}

/// What a form says, as JSON.
pub(crate) fn to_json(fields: &[(String, Field)], shape: Shape, partial: bool) -> Value {
    let mut body = Map::new();
    for (name, kind) in shape {
        let given: Vec<&Field> = fields.iter().filter(|(key, _)| key == name).map(|(_, field)| field).collect();
        let value = match (kind, given.last()) {
            (Kind::List, Some(_)) => Some(given.iter().map(|field| text(field)).collect()),
            (Kind::Flag, None) => absent_flag(fields, name, partial),
            (_, None) => None,
            // Nothing that a field of this API is, so that its reader says so.
            (_, Some(Field::File)) => Some(json!({})),
            (_, Some(Field::Text(value))) => read(*kind, value),
        };
        if let Some(value) = value {
            put(&mut body, name, value);
        }
    }
    Value::Object(body)
}

fn text(field: &Field) -> Value {
    match field {
        Field::Text(text) => json!(text),
        Field::File => Value::Null,
    }
}

fn read(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text | Kind::List => Some(json!(text)),
        Kind::Filled | Kind::Flag => (!text.is_empty()).then(|| json!(text)),
        Kind::Nullable => Some(if text.is_empty() { Value::Null } else { json!(text) }),
        Kind::Json if text.trim().is_empty() => Some(Value::Null),
        // What is no JSON stays text, and its reader says what it expects.
        Kind::Json => Some(serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
    }
}

/// A checkbox that is not ticked is not sent: so it means no if anything of its object was sent.
fn absent_flag(fields: &[(String, Field)], name: &str, partial: bool) -> Option<Value> {
    let (object, _) = name.rsplit_once('.')?;
    let is_inside = |key: &str| key.strip_prefix(object).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
    (!partial && fields.iter().any(|(key, _)| is_inside(key))).then_some(Value::Bool(false))
}

/// Puts a value where its dotted name says. What came whole is not mixed with parts.
fn put(body: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            body.insert(name.to_owned(), value);
        }
        Some((object, rest)) => {
            if let Value::Object(inner) = body.entry(object).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(form: &str, partial: bool) -> Value {
        let pairs = url::form_urlencoded::parse(form.as_bytes());
        let fields: Vec<_> = pairs.map(|(key, value)| (key.into_owned(), Field::Text(value.into_owned()))).collect();
        to_json(&fields, AGENT, partial)
    }

    #[test]
    fn dots_nest_and_an_absent_checkbox_means_no() {
        assert_eq!(
            agent("mentor=7&task.crontab.minute=*/5&task.one_off=on&title=a&title=b", false),
            json!({
                "mentor": "7", "title": "b",
                "task": { "crontab": { "minute": "*/5" }, "one_off": "on", "enabled": false },
            })
        );
        assert_eq!(agent("task.crontab.minute=5", true), json!({ "task": { "crontab": { "minute": "5" } } }));
        assert_eq!(agent("title=T", false), json!({ "title": "T" }), "there is no task to be enabled");
    }

    #[test]
    fn an_empty_value_is_null_or_empty_or_not_given_as_the_field_is() {
        assert_eq!(
            agent(
                "previous_agent=&task.start_time=&prompt=&task.enabled=&task.crontab.hour=&previous_agent_status=",
                false
            ),
            json!({ "previous_agent": null, "prompt": "", "task": { "start_time": null, "one_off": false } })
        );
    }

    #[test]
    fn brackets_and_json_in_a_field_are_not_understood() {
        assert_eq!(agent("task[crontab][minute]=5&task={}&task.=1", false), json!({}));
    }

    #[test]
    fn lists_repeat_and_objects_may_come_as_json() {
        assert_eq!(agent("callback_on=runs&callback_on=skipped", false), json!({ "callback_on": ["runs", "skipped"] }));
        let of = |fields: &[(&str, &str)]| {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| ((*key).to_owned(), Field::Text((*value).to_owned()))).collect();
            to_json(&fields, MENTOR, false)
        };
        assert_eq!(of(&[("metadata", "{\"a\": 1}")]), json!({ "metadata": { "a": 1 } }));
        assert_eq!(of(&[("metadata", "zz")]), json!({ "metadata": "zz" }));
        assert_eq!(of(&[("provider", "{\"kind\": \"echo\"}")]), json!({ "provider": { "kind": "echo" } }));
        assert_eq!(of(&[("provider.kind", "echo")]), json!({ "provider": { "kind": "echo" } }));
        let file = [("name".to_owned(), Field::File)];
        assert_eq!(to_json(&file, MENTOR, false), json!({ "name": {} }));
    }

    proptest::proptest! {
        #[test]
        fn no_form_is_too_strange(fields: Vec<(String, String)>, partial: bool) {
            let fields: Vec<_> = fields.into_iter().map(|(key, value)| (key, Field::Text(value))).collect();
            proptest::prop_assert!(to_json(&fields, AGENT, partial).is_object());
        }
    }
}
