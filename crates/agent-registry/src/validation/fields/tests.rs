//! The table of messages of the contract.

use super::*;
use serde_json::json;

/// Reads a body, and gives what was read and what was wrong.
fn reading<T>(body: Value, presence: Presence, read: impl Fn(&Fields<'_>) -> Option<T>) -> (Option<T>, Value) {
    let faults = Faults::default();
    let value = Fields::of(&body, presence, &faults).and_then(|fields| read(&fields));
    (value, faults.into_errors().into_value())
}

#[test]
fn text_follows_the_table_of_messages() {
    let rule = Text::REQUIRED.max(3);
    for (field, expected) in [
        (json!("  a  "), Ok("a")),
        (json!(12), Ok("12")),
        (json!(1.5), Ok("1.5")),
        (json!(-3), Ok("-3")),
        (json!("äöü"), Ok("äöü")),
        (json!(""), Err("This field may not be blank.")),
        (json!("   "), Err("This field may not be blank.")),
        (json!(null), Err("This field may not be null.")),
        (json!(true), Err("Not a valid string.")),
        (json!([]), Err("Not a valid string.")),
        (json!({}), Err("Not a valid string.")),
        (json!("abcd"), Err("Ensure this field has no more than 3 characters.")),
        (json!("a\0"), Err("Null characters are not allowed.")),
    ] {
        let (value, faults) = reading(json!({ "x": field }), Presence::Whole, |fields| fields.text("x", rule));
        match expected {
            Ok(text) => assert_eq!((value.as_deref(), faults), (Some(text), json!({})), "{field}"),
            Err(message) => assert_eq!((value, faults), (None, json!({ "x": [message] })), "{field}"),
        }
    }
    let missing = reading(json!({}), Presence::Whole, |fields| fields.text("x", rule));
    assert_eq!(missing, (None, json!({ "x": ["This field is required."] })));
    assert_eq!(reading(json!({}), Presence::Partial, |fields| fields.text("x", rule)), (None, json!({})));
    let blank = reading(json!({ "x": " " }), Presence::Whole, |fields| fields.text("x", Text::OPTIONAL));
    assert_eq!(blank, (Some(String::new()), json!({})));
}

#[test]
fn a_number_becomes_text_only_with_all_its_digits() {
    let read = |number: &str| {
        let body = serde_json::from_str(&format!("{{\"x\": {number}}}")).unwrap();
        reading(body, Presence::Whole, |fields| fields.text("x", Text::REQUIRED))
    };
    for number in ["18446744073709551615", "-9223372036854775808", "0.25", "-1.5"] {
        assert_eq!(read(number), (Some(number.to_owned()), json!({})));
    }
    for number in ["18446744073709551616", "12345678901234567890123", "-9223372036854775809", "1e30"] {
        assert_eq!(read(number), (None, json!({ "x": ["Not a valid string."] })), "{number}");
    }
}

#[test]
fn booleans_are_read_from_all_their_words() {
    for word in [
        json!(true),
        json!("true"),
        json!("True"),
        json!("t"),
        json!("yes"),
        json!("y"),
        json!("on"),
        json!("1"),
        json!(1),
    ] {
        assert_eq!(reading(json!({ "x": word }), Presence::Whole, |fields| fields.boolean("x")).0, Some(true));
    }
    for word in [json!(false), json!("False"), json!("f"), json!("no"), json!("n"), json!("off"), json!("0"), json!(0)]
    {
        assert_eq!(reading(json!({ "x": word }), Presence::Whole, |fields| fields.boolean("x")).0, Some(false));
    }
    for (word, message) in [
        (json!("maybe"), "Must be a valid boolean."),
        (json!(""), "Must be a valid boolean."),
        (json!(2), "Must be a valid boolean."),
        (json!([]), "Must be a valid boolean."),
        (json!(null), "This field may not be null."),
    ] {
        let (value, faults) = reading(json!({ "x": word }), Presence::Whole, |fields| fields.boolean("x"));
        assert_eq!((value, faults), (None, json!({ "x": [message] })));
    }
}

#[test]
fn a_word_outside_of_the_choice_is_quoted() {
    let read =
        |value: Value| reading(json!({ "x": value }), Presence::Whole, |fields| fields.choice("x", &["success"]));
    assert_eq!(read(json!("success")), (Some("success"), json!({})));
    for (value, quoted) in [(json!("zz"), "zz"), (json!(""), ""), (json!(5), "5"), (json!(true), "True")] {
        assert_eq!(read(value), (None, json!({ "x": [format!("\"{quoted}\" is not a valid choice.")] })));
    }
}

#[test]
fn moments_and_integers_may_be_null_and_are_told_apart_from_missing() {
    let (value, _) = reading(json!({ "x": null }), Presence::Whole, |fields| fields.datetime("x"));
    assert_eq!(value, Some(None));
    let (value, faults) = reading(json!({ "x": 1 }), Presence::Whole, |fields| fields.datetime("x"));
    assert_eq!((value, faults), (None, json!({ "x": [time::BAD_DATETIME] })));
    let (value, _) = reading(json!({ "x": null }), Presence::Whole, |fields| fields.integer("x"));
    assert_eq!(value, Some(None));
    let (value, faults) = reading(json!({ "x": "1.5" }), Presence::Whole, |fields| fields.integer("x"));
    assert_eq!((value, faults), (None, json!({ "x": ["A valid integer is required."] })));
}

#[test]
fn what_is_no_object_is_told_by_its_python_type_at_every_level() {
    for (body, name) in
        [(json!([]), "list"), (json!("x"), "str"), (json!(1), "int"), (json!(1.5), "float"), (json!(true), "bool")]
    {
        let message = format!("Invalid data. Expected a dictionary, but got {name}.");
        let (_, faults) = reading(body.clone(), Presence::Whole, |fields| fields.text("x", Text::REQUIRED));
        assert_eq!(faults, json!({ "non_field_errors": [message] }));
        let (_, faults) = reading(json!({ "task": body }), Presence::Whole, |fields| fields.object("task").map(|_| ()));
        assert_eq!(faults, json!({ "task": { "non_field_errors": [message] } }));
    }
    let (_, faults) = reading(json!(null), Presence::Whole, |_| Some(()));
    assert_eq!(faults, json!({ "non_field_errors": ["No data provided"] }));
    let (_, faults) = reading(json!({ "task": null }), Presence::Whole, |fields| fields.object("task").map(|_| ()));
    assert_eq!(faults, json!({ "task": ["This field may not be null."] }));
}

#[test]
fn faults_of_nested_fields_nest() {
    let body = json!({ "task": { "crontab": { "minute": [] } } });
    let (_, faults) =
        reading(body, Presence::Whole, |fields| fields.object("task")?.object("crontab")?.text("minute", Text::FILLED));
    assert_eq!(faults, json!({ "task": { "crontab": { "minute": ["Not a valid string."] } } }));
}
