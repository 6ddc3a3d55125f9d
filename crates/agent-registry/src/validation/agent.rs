//! What a request says about a periodic agent.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use model::crontab::{Crontab, CrontabField, CrontabFields};
use serde_json::Value;
use service_kit::secrets::Secret;

use super::fields::{Faults, Fields, Presence, Text};
use super::limits::{DESCRIPTION_CHARS_MAX, PROMPT_CHARS_MAX};
use super::policy::{EndpointInput, PolicyInput};
use super::{reference, url};
use crate::validation::reference::MentorReference;

/// The states that a previous agent may have to be in.
pub(crate) const STATUSES: [&str; 4] = ["success", "error", "running", "pending"];

/// What kind of write a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// `POST`: what is missing gets its default.
    Create,
    /// `PUT`: what is missing at the top keeps its value, what is missing inside `task` gets its default.
    Replace,
    /// `PATCH`: what is missing keeps its value.
    Change,
}

/// What a write does to a callback secret: missing or empty keeps it, null removes it.
#[derive(Debug, Clone, Default)]
pub(crate) enum SecretChange {
    /// Stays as it is.
    #[default]
    Keep,
    /// Callbacks are not signed any more.
    Remove,
    /// Callbacks are signed with this.
    Set(Secret<String>),
}

/// The fields of a periodic agent that a request carries; absent ones keep what was there.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentInput {
    pub(crate) mentor: Option<MentorReference>,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) prompt: Option<String>,
    pub(crate) task: TaskInput,
    pub(crate) pathway: Option<String>,
    pub(crate) callback_url: Option<String>,
    pub(crate) callback_secret: SecretChange,
    pub(crate) parent_session_id: Option<String>,
    pub(crate) parent_mentor_id: Option<Option<i64>>,
    pub(crate) previous_agent: Option<Option<i64>>,
    pub(crate) previous_agent_status: Option<&'static str>,
    pub(crate) endpoint: EndpointInput,
}

impl AgentInput {
    /// How many bytes its texts have together.
    pub(crate) fn text_bytes(&self) -> usize {
        let texts = [&self.title, &self.description, &self.prompt, &self.pathway, &self.parent_session_id];
        texts.into_iter().flatten().map(String::len).sum()
    }
}

/// The fields of its `task`.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskInput {
    pub(crate) crontab: CrontabInput,
    pub(crate) one_off: Option<bool>,
    pub(crate) start_time: Option<Option<DateTime<Utc>>>,
    pub(crate) enabled: Option<bool>,
    pub(crate) policy: PolicyInput,
}

/// The fields of the task's `crontab`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrontabInput {
    fields: [Option<String>; 5],
    pub(crate) timezone: Option<Option<Tz>>,
}

impl AgentInput {
    /// Reads a request's body, noting every fault.
    pub(crate) fn read(body: &Value, write: Write, faults: &Faults) -> Self {
        let presence = if write == Write::Change { Presence::Partial } else { Presence::Whole };
        let Some(fields) = Fields::of(body, presence, faults) else { return Self::default() };
        Self {
            mentor: MentorReference::read(&fields, "mentor"),
            title: fields.text("title", Text::REQUIRED.max(255)),
            description: fields.text("description", Text::OPTIONAL.max(DESCRIPTION_CHARS_MAX)),
            prompt: fields.text("prompt", Text::OPTIONAL.max(PROMPT_CHARS_MAX)),
            task: fields.object("task").map(|task| TaskInput::read(&task, write)).unwrap_or_default(),
            pathway: fields.text("pathway", Text::OPTIONAL.max(255)),
            callback_url: read_callback_url(&fields),
            callback_secret: read_callback_secret(&fields),
            parent_session_id: fields.text("parent_session_id", Text::OPTIONAL.max(200)),
            parent_mentor_id: fields.integer("parent_mentor_id"),
            previous_agent: reference::agent_id(&fields, "previous_agent"),
            previous_agent_status: fields.choice("previous_agent_status", &STATUSES),
            endpoint: EndpointInput::read(&fields),
        }
    }
}

fn read_callback_url(fields: &Fields<'_>) -> Option<String> {
    let text = fields.text("callback_url", Text::OPTIONAL.max(200))?;
    if !text.is_empty() && !url::is_valid(&text) {
        fields.fault("callback_url", url::BAD_URL);
        return None;
    }
    Some(text)
}

fn read_callback_secret(fields: &Fields<'_>) -> SecretChange {
    if fields.raw("callback_secret").is_some_and(Value::is_null) {
        return SecretChange::Remove;
    }
    match fields.text("callback_secret", Text::OPTIONAL.max(255)) {
        Some(secret) if !secret.is_empty() => SecretChange::Set(Secret::new(secret)),
        _ => SecretChange::Keep,
    }
}

impl TaskInput {
    fn read(task: &Fields<'_>, write: Write) -> Self {
        let mut input = Self {
            crontab: task.object("crontab").map(|crontab| CrontabInput::read(&crontab)).unwrap_or_default(),
            one_off: task.boolean("one_off"),
            start_time: task.datetime("start_time"),
            enabled: task.boolean("enabled"),
            // A client of the original does not know of it, and so its PUT keeps it.
            policy: PolicyInput::read(task),
        };
        if write != Write::Change {
            input.one_off.get_or_insert(false);
            input.start_time.get_or_insert(None);
            input.enabled.get_or_insert(true);
            for field in &mut input.crontab.fields {
                field.get_or_insert_with(|| "*".to_owned());
            }
        }
        input
    }
}

impl CrontabInput {
    /// Reads a crontab object.
    pub(crate) fn read(crontab: &Fields<'_>) -> Self {
        // The length of each is the crontab's own affair: it knows the limits.
        let fields = CrontabField::ALL.map(|field| crontab.text(field.as_str(), Text::FILLED));
        Self { fields, timezone: Self::read_timezone(crontab) }
    }

    /// Reads the name of a zone: null or nothing is none of its own.
    pub(crate) fn read_timezone(crontab: &Fields<'_>) -> Option<Option<Tz>> {
        if crontab.raw("timezone")?.is_null() {
            return Some(None);
        }
        let name = crontab.text("timezone", Text::OPTIONAL)?;
        if name.is_empty() {
            return Some(None);
        }
        let zone = name.parse().ok();
        if zone.is_none() {
            crontab.fault("timezone", format!("\"{name}\" is not the name of an IANA time zone."));
        }
        zone.map(Some)
    }

    /// Writes the fields that the request carries over those that were there.
    pub(crate) fn apply(&self, crontab: &mut CrontabFields) {
        for (field, value) in CrontabField::ALL.into_iter().zip(&self.fields) {
            let place = match field {
                CrontabField::Minute => &mut crontab.minute,
                CrontabField::Hour => &mut crontab.hour,
                CrontabField::DayOfMonth => &mut crontab.day_of_month,
                CrontabField::MonthOfYear => &mut crontab.month_of_year,
                CrontabField::DayOfWeek => &mut crontab.day_of_week,
            };
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
    }
}

/// Notes what is wrong with a crontab, field by field.
pub(crate) fn check_crontab(crontab: &CrontabFields, place: &str, faults: &Faults) {
    for error in Crontab::parse(crontab).err().map(|errors| errors.0).unwrap_or_default() {
        match error.field {
            Some(field) => faults.add(&format!("{place}.{field}"), error.reason),
            None => faults.add_general(place, error.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value, write: Write) -> (AgentInput, Value) {
        let faults = Faults::default();
        let input = AgentInput::read(body, write, &faults);
        (input, faults.into_errors().into_value())
    }

    #[test]
    fn the_least_that_a_creation_needs_gets_the_defaults() {
        let (input, faults) = read(&json!({ "mentor": 1, "title": "T", "task": { "crontab": {} } }), Write::Create);
        assert_eq!(faults, json!({}));
        assert_eq!(
            (input.task.enabled, input.task.one_off, input.task.start_time),
            (Some(true), Some(false), Some(None))
        );
        let mut crontab = CrontabFields { minute: "5".into(), ..Default::default() };
        input.task.crontab.apply(&mut crontab);
        assert_eq!(crontab, CrontabFields::default());
    }

    #[test]
    fn a_change_carries_only_what_it_names() {
        let (input, faults) = read(&json!({ "task": { "crontab": {}, "enabled": false } }), Write::Change);
        assert_eq!(faults, json!({}));
        assert_eq!((input.task.enabled, input.task.one_off, input.task.start_time), (Some(false), None, None));
        let before = CrontabFields { minute: "5".into(), ..Default::default() };
        let mut crontab = before.clone();
        input.task.crontab.apply(&mut crontab);
        assert_eq!(crontab, before);
        assert_eq!(read(&json!({}), Write::Change).1, json!({}));
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let body = json!({
            "mentor": "zz", "title": "", "description": [], "prompt": null, "pathway": "x".repeat(256),
            "task": { "crontab": { "minute": true, "timezone": "Mars/Olympus" }, "one_off": "maybe", "start_time": "zz", "enabled": null },
            "callback_url": "nonsense", "callback_secret": {}, "parent_session_id": "x".repeat(201),
            "parent_mentor_id": 1.5, "previous_agent": "x", "previous_agent_status": "zz",
        });
        assert_eq!(
            read(&body, Write::Create).1,
            json!({
                "mentor": ["“zz” is not a valid UUID."],
                "title": ["This field may not be blank."],
                "description": ["Not a valid string."],
                "prompt": ["This field may not be null."],
                "pathway": ["Ensure this field has no more than 255 characters."],
                "task": {
                    "crontab": {
                        "minute": ["Not a valid string."],
                        "timezone": ["\"Mars/Olympus\" is not the name of an IANA time zone."],
                    },
                    "one_off": ["Must be a valid boolean."],
                    "start_time": [crate::validation::time::BAD_DATETIME],
                    "enabled": ["This field may not be null."],
                },
                "callback_url": ["Enter a valid URL."],
                "callback_secret": ["Not a valid string."],
                "parent_session_id": ["Ensure this field has no more than 200 characters."],
                "parent_mentor_id": ["A valid integer is required."],
                "previous_agent": ["Incorrect type. Expected pk value, received str."],
                "previous_agent_status": ["\"zz\" is not a valid choice."],
            })
        );
    }

    #[test]
    fn an_empty_request_names_the_three_required_fields() {
        let required = json!({
            "mentor": ["This field is required."], "title": ["This field is required."], "task": ["This field is required."],
        });
        assert_eq!(read(&json!({}), Write::Create).1, required);
        assert_eq!(read(&json!({}), Write::Replace).1, required);
        let (_, faults) = read(&json!({ "mentor": 1, "title": "T", "task": {} }), Write::Create);
        assert_eq!(faults, json!({ "task": { "crontab": ["This field is required."] } }));
    }

    #[test]
    fn a_secret_is_kept_unless_it_is_named_and_removed_only_by_null() {
        let read = |value: Value| read(&json!({ "callback_secret": value }), Write::Change).0.callback_secret;
        assert!(matches!(read(json!("")), SecretChange::Keep));
        assert!(matches!(read(json!(null)), SecretChange::Remove));
        assert!(matches!(read(json!("s3cret")), SecretChange::Set(secret) if secret.expose() == "s3cret"));
    }
}
