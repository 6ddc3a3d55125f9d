//! The query of a list: which part of it, and what it is narrowed to.

use url::form_urlencoded;
use uuid::Uuid;

use super::fields::{Faults, not_one_of};
use super::service::{BAD_ADDRESS, TASK_TYPES, is_address};
use crate::refusal::Refusal;
use crate::store::Window;
use crate::store::services::ServiceFilter;

/// The longest list. As much as one user may have, so that a list of one's own is whole unless the client asks for less.
pub(crate) const LIMIT_MAX: i64 = 1_000;
const SEARCH_CHARS_MAX: usize = 255;

/// The parameters of a query, read one by one; of one given twice the last counts, and an empty one not at all.
struct Parameters {
    pairs: Vec<(String, String)>,
    faults: Faults,
}

impl Parameters {
    fn parse(query: &str) -> Self {
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect(), faults: Faults::default() }
    }

    fn text(&self, name: &str) -> Option<&str> {
        let value = self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    fn fault(&self, name: &str, kind: &'static str, msg: impl Into<String>) {
        self.faults.add(vec!["query".into(), name.into()], kind, msg);
    }

    fn integer(&self, name: &str, default: i64, min: i64, max: i64) -> i64 {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if number < min => {
                self.fault(name, "greater_than_equal", format!("Input should be greater than or equal to {min}"));
            }
            Ok(number) if number > max => {
                self.fault(name, "less_than_equal", format!("Input should be less than or equal to {max}"));
            }
            Ok(number) => return number,
            Err(_) => {
                let msg = "Input should be a valid integer, unable to parse string as an integer";
                self.fault(name, "int_parsing", msg);
            }
        }
        default
    }

    fn window(&self) -> Window {
        Window { limit: self.integer("limit", LIMIT_MAX, 1, LIMIT_MAX), offset: self.integer("offset", 0, 0, i64::MAX) }
    }

    fn uuid(&self, name: &str) -> Option<Uuid> {
        let read = Uuid::parse_str(self.text(name)?).ok();
        if read.is_none() {
            self.fault(name, "uuid_parsing", "Input should be a valid UUID");
        }
        read
    }

    fn task_type(&self) -> Option<&'static str> {
        let text = self.text("taskType")?;
        let found = TASK_TYPES.into_iter().find(|word| *word == text);
        if found.is_none() {
            self.fault("taskType", "enum", not_one_of(&TASK_TYPES));
        }
        found
    }

    fn agent(&self) -> Option<String> {
        let text = self.text("agent")?;
        if !is_address(text) {
            self.fault("agent", BAD_ADDRESS.0, BAD_ADDRESS.1);
        }
        Some(text.to_owned())
    }

    /// The words of `search`.
    fn search(&self) -> Vec<String> {
        let text = self.text("search").unwrap_or_default();
        if text.chars().nth(SEARCH_CHARS_MAX).is_some() {
            let msg = format!("String should have at most {SEARCH_CHARS_MAX} characters");
            self.fault("search", "string_too_long", msg);
            return Vec::new();
        }
        if text.contains('\0') {
            self.fault("search", "value_error", "String should hold no null characters");
            return Vec::new();
        }
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// Reads the query of a list of services.
pub(crate) fn read_services(query: &str) -> Result<(ServiceFilter, Window), Refusal> {
    let parameters = Parameters::parse(query);
    let filter = ServiceFilter {
        group: parameters.uuid("group"),
        task_type: parameters.task_type(),
        agent: parameters.agent(),
        search: parameters.search(),
    };
    let window = parameters.window();
    parameters.faults.into_result()?;
    Ok((filter, window))
}

/// Reads the query of any other list.
pub(crate) fn read_window(query: &str) -> Result<Window, Refusal> {
    let parameters = Parameters::parse(query);
    let window = parameters.window();
    parameters.faults.into_result()?;
    Ok(window)
}
