//! The operations of `/api/callbacks`: what became of results on their way to a receiver. The deliverer owns the answers,
//! so their schemas stand here.

use serde_json::{Map, Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use super::parts::{
    body, field_errors, moment, no_page, no_such, number, one_of, operation, page, paging, text, unavailable,
};
use crate::http::callbacks::WHOLE_LOG;
use crate::validation::form;

const O: &str = "/api/callbacks/orgs/{org}";
const CALLBACKS: &str = "callbacks";
const STATUSES: [&str; 5] = ["pending", "held", "delivered", "exhausted", "discarded"];

/// All of them that want to know who is asking.
pub(super) fn all() -> Vec<Operation> {
    [deliveries(), replays(), endpoints()].concat()
}

/// The whole log, for whoever has the link.
pub(super) fn whole_log() -> Operation {
    let text_body = json!({
        "description": "The log.",
        "content": { "text/plain": { "schema": { "type": "string" }, "example": "asked\nanswered" } },
    });
    Operation {
        parameters: vec![text("signature")],
        answers: vec![(200, text_body), no_such("PeriodicAgentLog"), unavailable()],
        open: true,
        ..operation(
            "GET",
            WHOLE_LOG.to_owned(),
            "getWholeLog",
            CALLBACKS,
            "The whole log of a run, by the link of a callback that could not hold it",
        )
    }
}

fn deliveries() -> Vec<Operation> {
    let place = format!("{O}/deliveries/{{id}}/");
    let one = |status: u16| (status, answer("The delivery.", reference("Delivery"), delivery()));
    let filters = vec![number("periodic_agent"), number("log"), one_of("status", &STATUSES), moment("created_after")];
    vec![
        Operation {
            parameters: [paging(), filters].concat(),
            answers: vec![page("Delivery", delivery()), field_errors(), no_page()],
            ..operation("GET", format!("{O}/deliveries/"), "listDeliveries", CALLBACKS, "List deliveries, newest first")
        },
        Operation {
            answers: vec![one(200), no_such("Delivery")],
            ..operation(
                "GET",
                place.clone(),
                "getDelivery",
                CALLBACKS,
                "Retrieve a delivery with its delivery attempts",
            )
        },
        Operation {
            answers: vec![one(202), no_such("Delivery")],
            ..operation(
                "POST",
                format!("{place}replay/"),
                "replayDelivery",
                CALLBACKS,
                "Deliver once more, under the same id",
            )
        },
    ]
}

fn replays() -> Vec<Operation> {
    let one = |status: u16| (status, answer("The job.", reference("Replay"), replay()));
    let asked = json!({ "since": "2026-11-20T00:00:00Z", "status": "exhausted" });
    vec![
        Operation {
            body: Some(body("ReplayCreate", form::REPLAY, true, asked)),
            answers: vec![one(202), field_errors()],
            ..operation("POST", format!("{O}/replays/"), "createReplay", CALLBACKS, "Replay many deliveries, as a job")
        },
        Operation {
            answers: vec![one(200), no_such("Replay")],
            ..operation("GET", format!("{O}/replays/{{id}}/"), "getReplay", CALLBACKS, "How far a replay has come")
        },
    ]
}

fn endpoints() -> Vec<Operation> {
    let place = format!("{O}/endpoints/{{id}}/");
    let one = || (200, answer("The endpoint.", reference("Endpoint"), endpoint()));
    vec![
        Operation {
            answers: vec![one(), no_such("Endpoint")],
            ..operation("GET", place.clone(), "getEndpoint", CALLBACKS, "How well an agent's endpoint is")
        },
        Operation {
            answers: vec![
                (202, answer("The ping's delivery.", reference("Delivery"), delivery())),
                no_such("Endpoint"),
            ],
            ..operation("POST", format!("{place}test/"), "testEndpoint", CALLBACKS, "Send a ping")
        },
        Operation {
            answers: vec![one(), no_such("Endpoint")],
            ..operation(
                "POST",
                format!("{place}enable/"),
                "enableEndpoint",
                CALLBACKS,
                "Enable an endpoint: what was held for it is delivered",
            )
        },
    ]
}

/// What the answers and requests hold.
pub(super) fn schemas() -> Map<String, Value> {
    let object = |example: Value, more: &[(&str, Value)]| {
        let mut properties = Map::new();
        for (name, value) in example.as_object().into_iter().flatten() {
            properties.insert(name.clone(), schema_of(value));
        }
        properties.extend(more.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())));
        json!({ "type": "object", "properties": properties })
    };
    let status = || json!({ "type": "string", "enum": STATUSES });
    let asked = json!({
        "type": "object", "required": ["since"],
        "properties": {
            "since": { "type": "string", "format": "date-time" },
            "periodic_agent": { "type": ["integer", "null"], "format": "int64" },
            "status": { "type": "string", "enum": ["exhausted", "delivered", "discarded"], "default": "exhausted" },
        },
    });
    Map::from_iter([
        ("Delivery".to_owned(), object(delivery(), &[("status", status())])),
        ("Replay".to_owned(), object(replay(), &[("status", status())])),
        ("Endpoint".to_owned(), object(endpoint(), &[])),
        ("ReplayCreate".to_owned(), asked),
    ])
}

/// Of a value that an answer may hold; one that is shown as null may be text.
fn schema_of(value: &Value) -> Value {
    match value {
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(_) => json!({ "type": ["integer", "null"] }),
        Value::Array(_) => json!({ "type": "array", "items": { "type": "object" } }),
        _ => json!({ "type": ["string", "null"] }),
    }
}

fn delivery() -> Value {
    json!({
        "id": 9,
        "webhook_id": "0e7a6b5e-8a0c-5d5e-9d0a-2b1d7f1e3c4d",
        "organisation": "acme",
        "periodic_agent": 7,
        "log": 17637408000001_i64,
        "event": "run.finished",
        "status": "delivered",
        "reason": null,
        "delivery_attempts_made": 1,
        "to_alert_url": false,
        "next_delivery_attempt_at": null,
        "created_at": "2026-11-21T12:00:00Z",
        "settled_at": "2026-11-21T12:00:01Z",
        "delivery_attempts": [{
            "number": 1,
            "started_at": "2026-11-21T12:00:00Z",
            "duration_ms": 12,
            "outcome": "delivered",
            "http_status": 204,
            "error": null,
            "response_excerpt": null,
        }],
    })
}

fn replay() -> Value {
    json!({
        "id": 3,
        "periodic_agent": 7,
        "since": "2026-11-20T00:00:00Z",
        "status": "exhausted",
        "state": "running",
        "total": 120,
        "replayed": 100,
        "created_at": "2026-11-21T12:00:00Z",
        "finished_at": null,
    })
}

fn endpoint() -> Value {
    json!({
        "periodic_agent": 7,
        "organisation": "acme",
        "callback_state": "failing",
        "failing_since": "2026-11-21T12:00:00Z",
        "failures": 4,
        "last_failure_at": "2026-11-21T12:05:00Z",
        "last_outcome": "timed_out",
        "disabled_at": null,
        "disabled_reason": null,
        "held": 0,
        "pending": 2,
        "exhausted": 0,
    })
}
