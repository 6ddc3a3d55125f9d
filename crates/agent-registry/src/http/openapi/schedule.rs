//! The operations that tell what a schedule will do, and those that stop it.

use serde_json::{Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use super::examples;
use super::parts::{body, field_errors, moment, no_such, operation, query};
use crate::validation::form;

const P: &str = "/api/ai-mentor/orgs/{org}/users/{user_id}";
const SCHEDULES: &str = "schedules";

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    let results = json!({
        "type": "object", "required": ["results"],
        "properties": { "results": { "type": "array", "items": reference("UpcomingTick") } },
    });
    let asked = json!({ "crontab": { "minute": "30", "hour": "2" }, "timezone": "Europe/Berlin" });
    vec![
        Operation {
            parameters: vec![
                query("count", json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 5 })),
                moment("from"),
            ],
            answers: vec![
                (200, answer("The ticks to come.", results, json!({ "results": [upcoming()] }))),
                field_errors(),
                no_such("PeriodicAgent"),
            ],
            ..operation(
                "GET",
                format!("{P}/periodic-agents/{{id}}/upcoming/"),
                "listUpcomingTicks",
                SCHEDULES,
                "List the ticks to come",
            )
        },
        Operation {
            body: Some(body("CrontabPreviewCreate", form::PREVIEW, true, asked)),
            answers: vec![(200, answer("What it means.", reference("CrontabPreview"), preview())), field_errors()],
            ..operation(
                "POST",
                format!("{P}/crontab/preview/"),
                "previewCrontab",
                SCHEDULES,
                "Say what a crontab means before anything is made of it",
            )
        },
        stop("pause", "pausePeriodicAgent", json!({ "note": "asks too much" }), "Start no run of an agent any more"),
        stop("resume", "resumePeriodicAgent", json!({ "catch_up": "none" }), "Let a paused agent go on"),
        Operation {
            answers: vec![
                (202, answer("The log, ended.", reference("PeriodicAgentLog"), examples::log())),
                no_such("PeriodicAgentLog"),
            ],
            ..operation(
                "POST",
                format!("{P}/periodic-agent-logs/{{id}}/cancel/"),
                "cancelRun",
                SCHEDULES,
                "End a run now, as `error` with reason `cancelled`",
            )
        },
    ]
}

fn stop(word: &'static str, id: &'static str, example: Value, summary: &'static str) -> Operation {
    Operation {
        body: Some(body("Pause", form::PAUSE, false, example)),
        answers: vec![
            (200, answer("The agent.", reference("PeriodicAgent"), examples::agent())),
            field_errors(),
            no_such("PeriodicAgent"),
        ],
        ..operation("POST", format!("{P}/periodic-agents/{{id}}/{word}/"), id, SCHEDULES, summary)
    }
}

fn upcoming() -> Value {
    json!({
        "fire_time": "2026-03-29T01:00:00Z",
        "nominal_time": "2026-03-29T01:00:00Z",
        "local_time": "2026-03-29T03:00:00+02:00",
        "daylight_saving": "shifted",
    })
}

fn preview() -> Value {
    json!({
        "description": "At 02:30, Europe/Berlin",
        "fire_times": ["2026-03-29T01:00:00Z"],
        "ticks": [upcoming()],
        "warnings": [],
    })
}
