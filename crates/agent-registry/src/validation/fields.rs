//! Reads one JSON object field by field, with the rules and messages of Django REST framework.
//!
//! Every method gives the value if it is there and good. If it is missing or bad, the fault is noted and the value is
//! absent, so that one reading finds all faults; the caller looks at the gathered faults before it uses anything.

use std::cell::RefCell;

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use service_kit::error::FieldErrors;

use super::{number, time};

pub(crate) const REQUIRED: &str = "This field is required.";
pub(crate) const NOT_NULL: &str = "This field may not be null.";
pub(crate) const NO_NUL: &str = "Null characters are not allowed.";
pub(crate) const NOT_BLANK: &str = "This field may not be blank.";

/// The faults of one request, gathered by all its readers.
#[derive(Debug, Default)]
pub(crate) struct Faults(RefCell<FieldErrors>);

impl Faults {
    pub(crate) fn add(&self, path: &str, message: impl Into<String>) {
        self.0.borrow_mut().add(path, message);
    }

    pub(crate) fn add_general(&self, path: &str, message: impl Into<String>) {
        self.0.borrow_mut().add_general(path, message);
    }

    pub(crate) fn into_errors(self) -> FieldErrors {
        self.0.into_inner()
    }
}

impl From<FieldErrors> for Faults {
    fn from(errors: FieldErrors) -> Self {
        Self(RefCell::new(errors))
    }
}

/// Whether fields may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// `POST`, `PUT`: required fields are required.
    Whole,
    /// `PATCH`: every field may be missing.
    Partial,
}

/// What a text field may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    required: bool,
    blank: bool,
    length_max: Option<usize>,
}

impl Text {
    /// Must be there and hold something.
    pub(crate) const REQUIRED: Self = Self { required: true, blank: false, length_max: None };
    /// May be missing or empty.
    pub(crate) const OPTIONAL: Self = Self { required: false, blank: true, length_max: None };
    /// May be missing, but not empty.
    pub(crate) const FILLED: Self = Self { required: false, blank: false, length_max: None };

    /// At most so many characters.
    pub(crate) const fn max(self, length_max: usize) -> Self {
        Self { length_max: Some(length_max), ..self }
    }
}

/// One object of a request.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    presence: Presence,
    faults: &'a Faults,
}

impl<'a> Fields<'a> {
    /// The request's own object.
    pub(crate) fn of(body: &'a Value, presence: Presence, faults: &'a Faults) -> Option<Self> {
        match body {
            Value::Object(object) => Some(Self { object, path: String::new(), presence, faults }),
            Value::Null => {
                faults.add_general("", "No data provided");
                None
            }
            other => {
                faults.add_general("", not_a_dictionary(other));
                None
            }
        }
    }

    /// The full name of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes a fault of a field.
    pub(crate) fn fault(&self, name: &str, message: impl Into<String>) {
        self.faults.add(&self.path(name), message);
    }

    /// A field as it came.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name)
    }

    /// A field that must be there unless the request is partial, and must not be null.
    pub(crate) fn required(&self, name: &str) -> Option<&'a Value> {
        match self.raw(name) {
            None if self.presence == Presence::Whole => {
                self.fault(name, REQUIRED);
                None
            }
            _ => self.given(name),
        }
    }

    /// A field that may be missing, but not null.
    pub(crate) fn given(&self, name: &str) -> Option<&'a Value> {
        let value = self.raw(name)?;
        if value.is_null() {
            self.fault(name, NOT_NULL);
            return None;
        }
        Some(value)
    }

    /// Text, trimmed; numbers count as text, if all their digits are there.
    pub(crate) fn text(&self, name: &str, rule: Text) -> Option<String> {
        let value = if rule.required { self.required(name)? } else { self.given(name)? };
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) if !is_rounded(number) => number.to_string(),
            _ => {
                self.fault(name, "Not a valid string.");
                return None;
            }
        };
        let faults = text_faults(&text, rule);
        let good = faults.is_empty();
        faults.into_iter().for_each(|fault| self.fault(name, fault));
        good.then_some(text)
    }

    /// Text that may be null.
    pub(crate) fn nullable_text(&self, name: &str, rule: Text) -> Option<Option<String>> {
        if self.raw(name)?.is_null() { Some(None) } else { self.text(name, rule).map(Some) }
    }

    /// A boolean, or one of the words that stand for one.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let read = as_boolean(self.given(name)?);
        if read.is_none() {
            self.fault(name, "Must be a valid boolean.");
        }
        read
    }

    /// A nullable moment.
    pub(crate) fn datetime(&self, name: &str) -> Option<Option<DateTime<Utc>>> {
        let value = self.raw(name)?;
        if value.is_null() {
            return Some(None);
        }
        let read = value.as_str().and_then(time::parse);
        if read.is_none() {
            self.fault(name, time::BAD_DATETIME);
        }
        read.map(Some)
    }

    /// A nullable 64-bit integer.
    pub(crate) fn integer(&self, name: &str) -> Option<Option<i64>> {
        let value = self.raw(name)?;
        if value.is_null() {
            return Some(None);
        }
        match number::integer(value) {
            Ok(integer) => Some(Some(integer)),
            Err(fault) => {
                self.fault(name, fault.message());
                None
            }
        }
    }

    /// A nullable number within bounds.
    pub(crate) fn decimal(&self, name: &str, min: f64, max: f64) -> Option<Option<f64>> {
        let value = self.raw(name)?;
        let number = match value {
            Value::Null => return Some(None),
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        let fault = match number {
            None => "A valid number is required.".to_owned(),
            Some(number) if number > max => format!("Ensure this value is less than or equal to {max}."),
            Some(number) if number < min => format!("Ensure this value is greater than or equal to {min}."),
            Some(number) => return Some(Some(number)),
        };
        self.fault(name, fault);
        None
    }

    /// One of a set of words.
    pub(crate) fn choice(&self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.given(name)?;
        let found = words.iter().copied().find(|word| value.as_str() == Some(word));
        if found.is_none() {
            self.fault(name, format!("\"{}\" is not a valid choice.", python_text(value)));
        }
        found
    }

    /// An object that must be there unless the request is partial.
    pub(crate) fn object(&self, name: &str) -> Option<Fields<'a>> {
        let value = self.required(name)?;
        self.nested(name, value)
    }

    /// An object that may be missing or null.
    pub(crate) fn nullable_object(&self, name: &str) -> Option<Option<Fields<'a>>> {
        match self.raw(name)? {
            Value::Null => Some(None),
            value => self.nested(name, value).map(Some),
        }
    }

    fn nested(&self, name: &str, value: &'a Value) -> Option<Fields<'a>> {
        let path = self.path(name);
        match value {
            Value::Object(object) => Some(Fields { object, path, presence: self.presence, faults: self.faults }),
            other => {
                self.faults.add_general(&path, not_a_dictionary(other));
                None
            }
        }
    }
}

/// Whether it may have been an integer with more digits than were read: none of 64 bits is a float.
fn is_rounded(number: &Number) -> bool {
    /// 2^63 and 2^64.
    const BEYOND: (f64, f64) = (-9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);
    number.is_f64() && number.as_f64().is_none_or(|number| number <= BEYOND.0 || number >= BEYOND.1)
}

fn text_faults(text: &str, rule: Text) -> Vec<String> {
    if text.is_empty() && !rule.blank {
        return vec![NOT_BLANK.to_owned()];
    }
    let mut faults = Vec::new();
    if let Some(max) = rule.length_max
        && text.chars().nth(max).is_some()
    {
        faults.push(format!("Ensure this field has no more than {max} characters."));
    }
    if text.contains('\0') {
        faults.push(NO_NUL.to_owned());
    }
    faults
}

fn as_boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::String(word) => match word.trim().to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
            "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn not_a_dictionary(value: &Value) -> String {
    format!("Invalid data. Expected a dictionary, but got {}.", python_type(value))
}

/// What Python calls the type of a value.
pub(crate) fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// A scalar as Python prints it; anything else as JSON.
pub(crate) fn python_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
