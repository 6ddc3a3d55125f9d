//! The operations of `/api/core`: organisations, their API keys and audit logs, and pausing everything.

use serde_json::{Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use super::parts::{being_erased, body, field_errors, moment, no_page, no_such, operation, page, paging, text};
use crate::validation::form;

const ORGANISATIONS: &str = "organisations";
const USERS: &str = "users";
const KEYS: &str = "API keys";
const EVERYTHING: &str = "everything";

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    [organisations(), users(), api_keys(), everything()].concat()
}

fn organisations() -> Vec<Operation> {
    let place = || "/api/core/orgs/{org}/".to_owned();
    let one = || (200, answer("The organisation.", reference("Organisation"), organisation()));
    let mut erasing = organisation();
    erasing["erasing"] = json!(true);
    let accepted = answer("It is being erased.", reference("Organisation"), erasing);
    vec![
        Operation {
            parameters: paging(),
            answers: vec![page("Organisation", organisation()), no_page()],
            ..operation("GET", "/api/core/orgs/".to_owned(), "listOrganisations", ORGANISATIONS, "List organisations")
        },
        Operation {
            answers: vec![one(), no_such("Organisation")],
            ..operation("GET", place(), "getOrganisation", ORGANISATIONS, "Retrieve an organisation's settings")
        },
        Operation {
            body: Some(body("OrganisationPatch", form::ORGANISATION, false, json!({ "timezone": "Europe/Berlin" }))),
            answers: vec![one(), field_errors(), no_such("Organisation"), being_erased()],
            ..operation("PATCH", place(), "patchOrganisation", ORGANISATIONS, "Change settings; `paused` acts at once")
        },
        Operation {
            answers: vec![(202, accepted), no_such("Organisation")],
            ..operation("DELETE", place(), "deleteOrganisation", ORGANISATIONS, "Erase an organisation, as a job")
        },
        Operation {
            parameters: [
                paging(),
                ["from", "to"].map(moment).to_vec(),
                ["action", "subject", "username"].map(text).to_vec(),
            ]
            .concat(),
            answers: vec![page("Change", change()), field_errors(), no_page()],
            ..operation(
                "GET",
                "/api/core/orgs/{org}/audit-log/".to_owned(),
                "listChanges",
                ORGANISATIONS,
                "List who changed what, newest first",
            )
        },
    ]
}

fn users() -> Vec<Operation> {
    let set = |verb: &str, id, revoked: bool, summary| {
        let user = json!({ "username": "ann", "role": "tenant_admin", "revoked": revoked, "allowed": !revoked });
        Operation {
            answers: vec![(200, answer("The user.", reference("User"), user)), no_such("Organisation"), being_erased()],
            ..operation("POST", format!("/api/core/orgs/{{org}}/users/{{name}}/{verb}/"), id, USERS, summary)
        }
    };
    vec![
        set("revoke", "revokeUser", true, "Let no run act as a user: ticks of the agents that it created are skipped"),
        set("restore", "restoreUser", false, "Let runs act as a user again"),
    ]
}

fn api_keys() -> Vec<Operation> {
    let place = || "/api/core/platform/api-tokens/".to_owned();
    let keys = json!({ "type": "array", "items": reference("ApiKey") });
    let asked = json!({ "name": "ci", "platform_key": "acme", "expires_in": "30 00:00:00" });
    vec![
        Operation {
            parameters: vec![text("platform_key")],
            answers: vec![
                (200, answer("The keys, without what they are.", keys, json!([api_key("")]))),
                field_errors(),
            ],
            ..operation("GET", place(), "listApiKeys", KEYS, "List an organisation's API keys")
        },
        Operation {
            body: Some(body("ApiKeyCreate", form::API_KEY, true, asked)),
            answers: vec![
                (201, answer("Shown once.", reference("ApiKey"), api_key(&"0".repeat(64)))),
                field_errors(),
                being_erased(),
            ],
            ..operation("POST", place(), "createApiKey", KEYS, "Create an API key of the caller's user")
        },
        Operation {
            parameters: vec![text("platform_key")],
            answers: vec![(204, json!({ "description": "It is revoked." })), field_errors(), no_such("ApiKey")],
            ..operation("DELETE", format!("{}{{name}}/", place()), "deleteApiKey", KEYS, "Revoke an API key")
        },
    ]
}

fn everything() -> Vec<Operation> {
    let state = json!({
        "type": "object", "required": ["paused", "note"],
        "properties": { "paused": { "type": "boolean" }, "note": { "type": "string" } },
    });
    let set = |path: &str, id, paused: bool, example: Value, summary| Operation {
        body: Some(body("Pause", form::PAUSE, false, example)),
        answers: vec![
            (200, answer("So it is.", state.clone(), json!({ "paused": paused, "note": "" }))),
            field_errors(),
        ],
        ..operation("POST", path.to_owned(), id, EVERYTHING, summary)
    };
    vec![
        set("/api/core/pause/", "pauseEverything", true, json!({ "note": "broker upgrade" }), "Start no run any more"),
        set("/api/core/resume/", "resumeEverything", false, json!({ "catch_up": "latest" }), "Start runs again"),
    ]
}

fn organisation() -> Value {
    json!({
        "platform_key": "acme",
        "timezone": "UTC",
        "paused": false,
        "paused_note": "",
        "limits": {
            "agents_max": null,
            "runs_in_flight_max": 100,
            "callbacks_in_flight_max": null,
            "requests_per_minute": null,
        },
        "retention": { "logs_days": 90, "ticks_days": null, "deliveries_days": null },
        "default_provider": "",
        "alert_url": "https://acme.example/alerts",
        "alert_secret_set": true,
        "erasing": false,
        "created_at": "2026-11-21T12:00:00Z",
    })
}

fn change() -> Value {
    json!({
        "id": 1,
        "at": "2026-11-21T12:00:00Z",
        "username": "admin",
        "acting_as": "admin",
        "credential": "token",
        "action": "agent.changed",
        "subject": "agent:7",
        "fields": ["title"],
    })
}

fn api_key(key: &str) -> Value {
    json!({
        "username": "admin",
        "name": "ci",
        "key": key,
        "expires": "2026-12-21T12:00:00Z",
        "created": "2026-11-21T12:00:00Z",
        "read_only": false,
    })
}
