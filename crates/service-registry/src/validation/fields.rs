//! Reads one JSON object field by field, with the messages of FastAPI.
//!
//! Every method gives the value if it is there and good. If it is missing or bad, the fault is noted and the value is
//! absent, so that one reading finds all faults; the caller looks at the gathered faults before it uses anything.

use std::cell::RefCell;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::refusal::{Fault, Refusal, Step};

/// The faults of one request, gathered by all its readers.
#[derive(Debug, Default)]
pub(crate) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, loc: Vec<Step>, kind: &'static str, msg: impl Into<String>) {
        self.0.borrow_mut().push(Fault { loc, msg: msg.into(), kind });
    }

    /// Goes on if nothing is wrong.
    pub(crate) fn into_result(self) -> Result<(), Refusal> {
        let faults = self.0.into_inner();
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
    }
}

/// How long a text may be, in characters. One that must hold something must hold more than white space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) filled: bool,
    pub(crate) max: usize,
}

impl Length {
    /// At least one character.
    pub(crate) const fn filled(max: usize) -> Self {
        Self { filled: true, max }
    }

    /// Perhaps none.
    pub(crate) const fn any(max: usize) -> Self {
        Self { filled: false, max }
    }
}

/// One object of a request.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    loc: Vec<Step>,
    faults: &'a Faults,
}

impl<'a> Fields<'a> {
    /// The object at `loc`.
    pub(crate) fn of(value: &'a Value, loc: Vec<Step>, faults: &'a Faults) -> Option<Self> {
        if let Value::Object(object) = value {
            return Some(Self { object, loc, faults });
        }
        faults.add(loc, "dict_type", "Input should be a valid dictionary");
        None
    }

    /// The request's own object.
    pub(crate) fn of_body(body: &'a Value, faults: &'a Faults) -> Option<Self> {
        Self::of(body, vec!["body".into()], faults)
    }

    /// Where a field is.
    pub(crate) fn loc(&self, name: &str) -> Vec<Step> {
        self.loc.iter().cloned().chain([name.into()]).collect()
    }

    /// Notes a fault of a field.
    pub(crate) fn fault(&self, name: &str, kind: &'static str, msg: impl Into<String>) {
        self.faults.add(self.loc(name), kind, msg);
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str) -> Option<&'a Value> {
        let value = self.object.get(name);
        if value.is_none() {
            self.fault(name, "missing", "Field required");
        }
        value
    }

    /// Text that must be there.
    pub(crate) fn text(&self, name: &str, length: Length) -> Option<&'a str> {
        let value = self.required(name)?;
        self.read_text(name, value, length)
    }

    /// Text that may be missing, or null.
    pub(crate) fn nullable_text(&self, name: &str, length: Length) -> Option<Option<&'a str>> {
        match self.object.get(name)? {
            Value::Null => Some(None),
            value => self.read_text(name, value, length).map(Some),
        }
    }

    fn read_text(&self, name: &str, value: &'a Value, length: Length) -> Option<&'a str> {
        let fault = match value.as_str() {
            None => ("string_type", "Input should be a valid string".to_owned()),
            Some(text) if length.filled && text.is_empty() => {
                ("string_too_short", "String should have at least 1 character".to_owned())
            }
            Some(text) if length.filled && text.trim().is_empty() => {
                ("value_error", "String should hold more than white space".to_owned())
            }
            Some(text) if text.chars().nth(length.max).is_some() => {
                ("string_too_long", format!("String should have at most {} characters", length.max))
            }
            // PostgreSQL cannot hold them.
            Some(text) if text.contains('\0') => ("value_error", "String should hold no null characters".to_owned()),
            Some(text) => return Some(text),
        };
        self.fault(name, fault.0, fault.1);
        None
    }

    /// A boolean that must be there.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let read = self.required(name)?.as_bool();
        if read.is_none() {
            self.fault(name, "bool_type", "Input should be a valid boolean");
        }
        read
    }

    /// A UUID that must be there.
    pub(crate) fn uuid(&self, name: &str) -> Option<Uuid> {
        let read = self.required(name)?.as_str().and_then(|text| Uuid::parse_str(text).ok());
        if read.is_none() {
            self.fault(name, "uuid_parsing", "Input should be a valid UUID");
        }
        read
    }

    /// One of a set of words that must be there.
    pub(crate) fn word(&self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.required(name)?;
        let found = words.iter().copied().find(|word| value.as_str() == Some(word));
        if found.is_none() {
            self.fault(name, "enum", not_one_of(words));
        }
        found
    }

    /// A list of objects that must be there.
    pub(crate) fn objects(&self, name: &str, max: usize) -> Option<Vec<Fields<'a>>> {
        let Some(items) = self.required(name)?.as_array() else {
            self.fault(name, "list_type", "Input should be a valid list");
            return None;
        };
        if items.len() > max {
            let msg = format!("List should have at most {max} items after validation, not {}", items.len());
            self.fault(name, "too_long", msg);
            return None;
        }
        let item = |(index, value)| {
            let loc = self.loc(name).into_iter().chain([Step::Index(index)]).collect();
            Self::of(value, loc, self.faults)
        };
        Some(items.iter().enumerate().filter_map(item).collect())
    }
}

/// What is said about a word that is none of these.
pub(crate) fn not_one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    format!("Input should be {}", words.join(" or "))
}
