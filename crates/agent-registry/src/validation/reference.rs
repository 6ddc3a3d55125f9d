//! References to mentors and agents, as requests write them.

use serde_json::Value;
use uuid::Uuid;

use super::fields::{Fields, NOT_NULL, python_type};
use super::number;

/// A mentor as a request names it; answers to writes name it the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MentorReference {
    /// By integer id, as in version 3.59 of the original.
    Id(i64),
    /// By public id, as today's clients do.
    UniqueId(Uuid),
}

impl MentorReference {
    /// Reads a UUID, an integer or digits; anything else is noted as a fault.
    pub(crate) fn read(fields: &Fields<'_>, name: &str) -> Option<Self> {
        let read = match fields.required(name)? {
            Value::String(text) if text.trim().is_empty() => Err(NOT_NULL.to_owned()),
            Value::String(text) => Self::from_text(text.trim()),
            Value::Number(number) if number.is_i64() => {
                number.as_i64().map(Self::Id).ok_or_else(|| no_such_pk(&number.to_string()))
            }
            Value::Number(number) => Err(no_such_pk(&number.to_string())),
            other => Err(wrong_type(other)),
        };
        read.map_err(|fault| fields.fault(name, fault)).ok()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(id) = text.parse()
        {
            return Ok(Self::Id(id));
        }
        Uuid::parse_str(text).map(Self::UniqueId).map_err(|_| format!("“{text}” is not a valid UUID."))
    }

    /// What is said when there is no such mentor.
    pub(crate) fn missing(self) -> String {
        match self {
            Self::Id(id) => no_such_pk(&id.to_string()),
            Self::UniqueId(id) => format!("Object with unique_id={id} does not exist."),
        }
    }
}

/// Reads a nullable reference to an agent by its id; anything else is noted as a fault.
pub(crate) fn agent_id(fields: &Fields<'_>, name: &str) -> Option<Option<i64>> {
    let value = fields.raw(name)?;
    let read = match value {
        Value::Null => Ok(None),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::Number(_) | Value::String(_) => match number::integer(value) {
            Ok(id) => Ok(Some(id)),
            Err(number::BadInteger::Invalid) => Err(wrong_type(value)),
            Err(_) => Err(no_such_pk(value.as_str().unwrap_or(&value.to_string()))),
        },
        other => Err(wrong_type(other)),
    };
    read.map_err(|fault| fields.fault(name, fault)).ok()
}

/// What is said when there is nothing with this id.
pub(crate) fn no_such_pk(id: &str) -> String {
    format!("Invalid pk \"{id}\" - object does not exist.")
}

fn wrong_type(value: &Value) -> String {
    format!("Incorrect type. Expected pk value, received {}.", python_type(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::fields::{Faults, Presence};
    use serde_json::json;

    fn fault_of<T>(value: &Value, read: impl Fn(&Fields<'_>) -> Option<T>) -> Result<T, String> {
        let faults = Faults::default();
        let body = json!({ "x": value });
        let read = Fields::of(&body, Presence::Whole, &faults).and_then(|fields| read(&fields));
        read.ok_or_else(|| faults.into_errors().into_value()["x"][0].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_mentor_is_named_by_uuid_integer_or_digits() {
        let uuid = Uuid::from_u128(7);
        for (value, expected) in [
            (json!(uuid.to_string()), Ok(MentorReference::UniqueId(uuid))),
            (json!(7), Ok(MentorReference::Id(7))),
            (json!("7"), Ok(MentorReference::Id(7))),
            (json!("zz"), Err("“zz” is not a valid UUID.")),
            (json!(true), Err("Incorrect type. Expected pk value, received bool.")),
            (json!([]), Err("Incorrect type. Expected pk value, received list.")),
            (json!(null), Err("This field may not be null.")),
            (json!(""), Err("This field may not be null.")),
        ] {
            let read = fault_of(&value, |fields| MentorReference::read(fields, "x"));
            assert_eq!(read, expected.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn a_previous_agent_is_named_by_id_or_by_nothing() {
        for (value, expected) in [
            (json!(7), Ok(Some(7))),
            (json!("7"), Ok(Some(7))),
            (json!(null), Ok(None)),
            (json!(""), Ok(None)),
            (json!("x"), Err("Incorrect type. Expected pk value, received str.")),
            (json!({}), Err("Incorrect type. Expected pk value, received dict.")),
            (json!("99999999999999999999"), Err("Invalid pk \"99999999999999999999\" - object does not exist.")),
        ] {
            assert_eq!(fault_of(&value, |fields| agent_id(fields, "x")), expected.map_err(str::to_owned), "{value}");
        }
    }
}
