//! Services as a model sees them: functions with a name, a JSON Schema, and arguments that are checked against it.
//!
//! The schemas are flat: an object with one property for each field. So the check is a few lines, and a crate for all of
//! JSON Schema would be a hundred times as much.

use std::collections::{BTreeMap, HashSet};

use model::service::{CallableService, ServiceField};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The longest name of a function, and the longest description, that every provider takes.
const NAME_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// A service as a function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    /// What the model calls it: letters, digits, `_` and `-`; no other function of the run has it.
    pub(crate) name: String,
    pub(crate) description: String,
    /// The JSON Schema of its arguments.
    pub(crate) parameters: Value,
    pub(super) service: Uuid,
    pub(super) service_name: String,
    pub(super) endpoint: String,
    fields: Vec<ServiceField>,
}

/// A function for each service, in the same order.
pub(super) fn of_services(services: &[CallableService]) -> Vec<Function> {
    let mut taken = HashSet::new();
    services.iter().map(|service| of_service(service, &mut taken)).collect()
}

fn of_service(service: &CallableService, taken: &mut HashSet<String>) -> Function {
    Function {
        name: unique_name(&service.name, taken),
        description: service.description.chars().take(DESCRIPTION_CHARS_MAX).collect(),
        parameters: schema(&service.fields),
        service: service.id,
        // A name may hold what would break a line of the log.
        service_name: service.name.split_whitespace().collect::<Vec<_>>().join(" "),
        endpoint: service.endpoint.clone(),
        fields: service.fields.clone(),
    }
}

/// `Stock price (live)` becomes `Stock_price_live`, and the next of that name `Stock_price_live_2`.
fn unique_name(name: &str, taken: &mut HashSet<String>) -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let stem = if words.is_empty() { "service".to_owned() } else { words.join("_") };
    let candidate = |number: usize| {
        let ending = if number == 1 { String::new() } else { format!("_{number}") };
        format!("{}{ending}", &stem[..stem.len().min(NAME_CHARS_MAX - ending.len())])
    };
    let free = (1..).map(candidate).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

fn schema(fields: &[ServiceField]) -> Value {
    let property = |field: &ServiceField| {
        let mut property = match json_type(&field.field_type) {
            Some("array") => json!({ "type": "array", "items": {} }),
            Some(name) => json!({ "type": name }),
            None => json!({}),
        };
        property["description"] = field.description.as_str().into();
        (field.name.clone(), property)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name.as_str()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The JSON type that a field's type means, also in the words of common languages; none: any.
fn json_type(field_type: &str) -> Option<&'static str> {
    Some(match field_type.trim().to_ascii_lowercase().as_str() {
        "string" | "str" | "text" => "string",
        "integer" | "int" => "integer",
        "number" | "float" | "double" => "number",
        "boolean" | "bool" => "boolean",
        "array" | "list" => "array",
        "object" | "dict" => "object",
        _ => return None,
    })
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

/// So many decimal digits every number holds.
const DIGITS_HELD: usize = f64::DIGITS as usize;

/// What a model gives a function, checked.
#[derive(Debug)]
pub(super) struct Arguments {
    /// Each as the model wrote it: a number may have more digits than [`Value`] holds. Of those with the same name the
    /// last, which is the one that was checked.
    pub(super) written: BTreeMap<String, Box<RawValue>>,
    /// What they say, whatever way it is written.
    pub(super) canonical: Value,
}

impl Arguments {
    /// As they are sent.
    pub(super) fn text(&self) -> String {
        // Names and texts that were JSON can be written as such.
        serde_json::to_string(&self.written).unwrap_or_default()
    }

    /// What tells them from others that say the same to [`Value`]: nothing, unless a number may have too many digits.
    pub(super) fn beyond_canonical(&self) -> String {
        let text = self.text();
        let digits = |number: &str| number.bytes().filter(u8::is_ascii_digit).count();
        let mut numbers = text.split(|char: char| !char.is_ascii_digit() && char != '.');
        let has_many = numbers.any(|number| digits(number) > DIGITS_HELD);
        if has_many { text } else { String::new() }
    }
}

impl Function {
    /// What the model gives, if it is what the schema says.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, for the model to mend.
    pub(super) fn read_arguments(&self, text: &str) -> Result<Arguments, String> {
        // Some servers leave out the arguments of a function that needs none.
        let text = if text.trim().is_empty() { "{}" } else { text };
        let no_json = |error: serde_json::Error| format!("they are no JSON: {error}");
        let canonical: Value = serde_json::from_str(text).map_err(no_json)?;
        let Value::Object(given) = &canonical else { return Err("they are no JSON object".to_owned()) };
        let mut faults = Vec::new();
        for field in &self.fields {
            let wanted = json_type(&field.field_type);
            match (given.get(&field.name), wanted) {
                (None, _) if field.required => faults.push(format!("`{}` is missing", field.name)),
                // What a model says of a field that it leaves out.
                (Some(Value::Null), _) if !field.required => {}
                (Some(value), Some(wanted)) if !is_of_type(value, wanted) => {
                    faults.push(format!("`{}` is not of type {wanted}", field.name));
                }
                _ => {}
            }
        }
        let known: HashSet<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        let unknown = given.keys().filter(|name| !known.contains(name.as_str()));
        faults.extend(unknown.map(|name| format!("`{name}` is no argument of it")));
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        let written: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(no_json)?;
        // A name that serde_json keeps for itself is read otherwise than it is sent.
        if written.len() != given.len() || !written.keys().all(|name| given.contains_key(name)) {
            return Err("they have a name that no argument may have".to_owned());
        }
        Ok(Arguments { written, canonical })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service(name: &str, fields: &[(&str, bool, &str)]) -> CallableService {
        let field = |(name, required, field_type): &(&str, bool, &str)| ServiceField {
            name: (*name).to_owned(),
            required: *required,
            field_type: (*field_type).to_owned(),
            description: format!("the {name}"),
        };
        CallableService {
            id: Uuid::nil(),
            name: name.to_owned(),
            description: "D".to_owned(),
            fields: fields.iter().map(field).collect(),
            endpoint: "https://s.example/".to_owned(),
        }
    }

    #[test]
    fn a_services_name_becomes_a_functions_and_stays_its_own() {
        let names = ["Stock price (live)", "stock-price", "Stock: price, live", "漢字", "", "漢", &"x".repeat(80)];
        let services: Vec<_> = names.iter().map(|name| service(name, &[])).collect();
        let functions: Vec<String> = of_services(&services).into_iter().map(|function| function.name).collect();
        let long = "x".repeat(64);
        let expected =
            ["Stock_price_live", "stock-price", "Stock_price_live_2", "service", "service_2", "service_3", &long];
        assert_eq!(functions, expected);
    }

    #[test]
    fn fields_become_a_schema() {
        let fields = [("symbol", true, "string"), ("days", false, "Int"), ("tags", false, "array"), ("x", true, "Foo")];
        let function = of_services(&[service("S", &fields)]).remove(0);
        let expected = json!({
            "type": "object",
            "properties": {
                "symbol": { "type": "string", "description": "the symbol" },
                "days": { "type": "integer", "description": "the days" },
                "tags": { "type": "array", "items": {}, "description": "the tags" },
                "x": { "description": "the x" },
            },
            "required": ["symbol", "x"],
            "additionalProperties": false,
        });
        assert_eq!(function.parameters, expected);
    }

    #[test]
    fn arguments_that_only_their_digits_tell_apart_are_told_apart() {
        let function = of_services(&[service("S", &[("n", true, "number"), ("m", false, "integer")])]).remove(0);
        let beyond = |text: &str| function.read_arguments(text).unwrap().beyond_canonical();
        for (one, other) in [
            (r#"{"n": 12345678901.234567}"#, r#"{"n": 12345678901.2345671}"#),
            (r#"{"n": 1234567890123456781}"#, r#"{"n": 1234567890123456782}"#),
        ] {
            assert_ne!(beyond(one), beyond(other));
        }
        assert_eq!(beyond(r#"{"n": 1.5, "m": 123456789012345}"#), "");
    }

    #[test]
    fn arguments_are_taken_or_every_fault_is_named() {
        let fields = [("symbol", true, "string"), ("days", false, "integer"), ("x", false, "Foo")];
        let function = of_services(&[service("S", &fields)]).remove(0);
        for good in
            [r#"{"symbol": "A"}"#, r#"{"symbol": "", "days": 3.0, "x": [1]}"#, r#"{"symbol": "A", "days": null}"#]
        {
            assert!(function.read_arguments(good).is_ok(), "{good}");
        }
        for (bad, fault) in [
            ("", "`symbol` is missing"),
            ("{", "they are no JSON"),
            ("[]", "they are no JSON object"),
            (r#"{"symbol": null}"#, "`symbol` is not of type string"),
            (
                r#"{"symbol": 1, "days": "3", "y": 0}"#,
                "`symbol` is not of type string; `days` is not of type integer; `y` is no",
            ),
            (r#"{"symbol": "A", "days": 1.5}"#, "`days` is not of type integer"),
        ] {
            let said = function.read_arguments(bad).unwrap_err();
            assert!(said.starts_with(fault), "{bad}: {said}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_providers_take_and_no_two_are_the_same(
            names in proptest::collection::vec("\\PC{0,100}", 1..40),
        ) {
            let services: Vec<_> = names.iter().map(|name| service(name, &[])).collect();
            let functions = of_services(&services);
            let good = |name: &str| {
                (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            };
            prop_assert!(functions.iter().all(|function| good(&function.name)));
            let distinct: HashSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
            prop_assert_eq!(distinct.len(), services.len());
        }
    }
}
