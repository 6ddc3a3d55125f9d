//! The faults of a request's fields, nested as the fields are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ApiError;

/// Collects what is wrong with each field of a request: `{"task": {"crontab": {"minute": ["…"]}}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Faults);

/// What is wrong with one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Faults {
    /// Of the field itself.
    own: Vec<String>,
    /// Of the field as an object.
    general: Vec<String>,
    /// Of the fields inside.
    inner: BTreeMap<String, Faults>,
}

impl FieldErrors {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault of the field at `path`, whose names are separated by dots: `task.crontab.minute`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.at(path).own.push(message.into());
    }

    /// Adds a fault of the object at `path` as a whole (`non_field_errors`); the empty path is the request itself.
    pub fn add_general(&mut self, path: &str, message: impl Into<String>) {
        self.0.at(path).general.push(message.into());
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The JSON body.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.0.into_object())
    }

    /// Goes on if nothing is wrong.
    ///
    /// # Errors
    ///
    /// 400 with everything that was added.
    pub fn into_result(self) -> Result<(), ApiError> {
        if self.is_empty() { Ok(()) } else { Err(ApiError::fields(self)) }
    }
}

impl Faults {
    fn at(&mut self, path: &str) -> &mut Self {
        let names = path.split('.').filter(|name| !name.is_empty());
        names.fold(self, |faults, name| faults.inner.entry(name.to_owned()).or_default())
    }

    fn into_value(self) -> Value {
        if self.general.is_empty() && self.inner.is_empty() { self.own.into() } else { self.into_object().into() }
    }

    /// As an object, the field's own faults stand with the general ones.
    fn into_object(mut self) -> Map<String, Value> {
        self.general.append(&mut self.own);
        let general = (!self.general.is_empty()).then(|| ("non_field_errors".to_owned(), self.general.into()));
        self.inner.into_iter().map(|(name, faults)| (name, faults.into_value())).chain(general).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_nest_as_the_fields_do_and_gather_per_field() {
        let mut errors = FieldErrors::new();
        errors.add("title", "This field is required.");
        errors.add("task.crontab.minute", "one");
        errors.add("task.crontab.minute", "two");
        errors.add("task.crontab.hour", "three");
        errors.add_general("task", "four");
        errors.add_general("", "five");
        assert_eq!(
            errors.into_value(),
            json!({
                "title": ["This field is required."],
                "task": { "crontab": { "minute": ["one", "two"], "hour": ["three"] }, "non_field_errors": ["four"] },
                "non_field_errors": ["five"],
            })
        );
    }

    #[test]
    fn a_fault_of_a_whole_object_and_of_its_field_stand_together_in_either_order() {
        let expected = json!({ "task": { "non_field_errors": ["whole"], "name": ["field"] } });
        let mut errors = FieldErrors::new();
        errors.add("task", "whole");
        errors.add("task.name", "field");
        assert_eq!(errors.into_value(), expected);
        let mut errors = FieldErrors::new();
        errors.add("task.name", "field");
        errors.add("task", "whole");
        assert_eq!(errors.into_value(), expected);
    }

    #[test]
    fn no_faults_are_no_error() {
        assert!(FieldErrors::new().into_result().is_ok());
    }
}
