//! Every operation: what it takes, how it answers.

use serde_json::{Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use super::examples;
use crate::validation::form;

const P: &str = "/api/ai-mentor/orgs/{org}/users/{user_id}";

/// All of them, in the order in which a reader wants them.
pub(super) fn all() -> Vec<Operation> {
    let asked = [agents(), runs(), logs(), mentors()].concat();
    asked.into_iter().map(with_common_answers).chain([key_set()]).collect()
}

fn agents() -> Vec<Operation> {
    let one = |status: u16, description: &str| {
        let body =
            if status == 200 && description == "The agent." { examples::agent() } else { examples::written_agent() };
        (status, answer(description, reference("PeriodicAgent"), body))
    };
    let agent = format!("{P}/periodic-agents/{{id}}/");
    vec![
        Operation {
            parameters: [filters(), list()].concat(),
            answers: vec![page("PeriodicAgent", examples::agent()), field_errors(), no_page()],
            ..operation("GET", format!("{P}/periodic-agents/"), "listPeriodicAgents", AGENTS, "List periodic agents")
        },
        Operation {
            parameters: vec![idempotency_key()],
            body: Some(body("PeriodicAgentCreate", form::AGENT, true, examples::agent_body())),
            answers: vec![one(201, "It is created."), field_errors(), key_reused()],
            ..operation(
                "POST",
                format!("{P}/periodic-agents/"),
                "createPeriodicAgent",
                AGENTS,
                "Create a periodic agent",
            )
        },
        Operation {
            parameters: filters(),
            answers: vec![(200, answer("Counts.", reference("Statistics"), examples::statistics())), field_errors()],
            ..operation(
                "GET",
                format!("{P}/periodic-agents/statistics/"),
                "getStatistics",
                AGENTS,
                "Count agents by the status of their newest log",
            )
        },
        Operation {
            answers: vec![one(200, "The agent."), no_such("PeriodicAgent")],
            ..operation("GET", agent.clone(), "getPeriodicAgent", AGENTS, "Retrieve a periodic agent")
        },
        Operation {
            body: Some(body("PeriodicAgentCreate", form::AGENT, true, examples::agent_body())),
            answers: vec![one(200, "It is changed."), field_errors(), no_such("PeriodicAgent")],
            ..operation(
                "PUT",
                agent.clone(),
                "putPeriodicAgent",
                AGENTS,
                "Replace a periodic agent: fields of the original inside `task` get their defaults, others stay",
            )
        },
        Operation {
            body: Some(body("PeriodicAgentPatch", form::AGENT, false, json!({ "task": { "enabled": false } }))),
            answers: vec![one(200, "It is changed."), field_errors(), no_such("PeriodicAgent")],
            ..operation("PATCH", agent.clone(), "patchPeriodicAgent", AGENTS, "Change a periodic agent, key by key")
        },
        Operation {
            answers: vec![gone(), no_such("PeriodicAgent")],
            ..operation(
                "DELETE",
                agent,
                "deletePeriodicAgent",
                AGENTS,
                "Delete a periodic agent with its logs; agents that wait for it are turned off",
            )
        },
        Operation {
            body: Some(body("SecretRotation", form::ROTATION, false, json!({ "grace_seconds": 3600 }))),
            answers: vec![
                (200, answer("Shown once.", reference("RotatedSecret"), examples::rotated())),
                field_errors(),
                no_such("PeriodicAgent"),
            ],
            ..operation(
                "POST",
                format!("{P}/periodic-agents/{{id}}/rotate-secret/"),
                "rotateSecret",
                AGENTS,
                "Give an agent another callback secret, while the one before stays good for a while",
            )
        },
    ]
}

fn runs() -> Vec<Operation> {
    let deleted = json!({ "detail": "The mentor of this agent was deleted: give it another one first.", "code": "mentor_deleted" });
    vec![
        Operation {
            parameters: vec![idempotency_key()],
            body: Some(body("RunCreate", form::TRIGGER, false, json!({ "prompt": "Just this once" }))),
            answers: vec![
                (202, answer("The run's log.", reference("PeriodicAgentLog"), examples::log())),
                field_errors(),
                no_such("PeriodicAgent"),
                (409, answer("It cannot run.", reference("Detail"), deleted)),
                key_reused(),
            ],
            ..operation(
                "POST",
                format!("{P}/periodic-agents/{{id}}/run/"),
                "runPeriodicAgent",
                RUNS,
                "Run an agent now",
            )
        },
        Operation {
            parameters: paging(),
            answers: vec![page("Tick", examples::tick()), no_such("PeriodicAgent")],
            ..operation(
                "GET",
                format!("{P}/periodic-agents/{{id}}/ticks/"),
                "listTicks",
                RUNS,
                "List an agent's ticks, newest first: what became of each planned moment",
            )
        },
    ]
}

fn logs() -> Vec<Operation> {
    let filters = ["mentor_id", "parent_mentor_id", "parent_session_id", "username"].map(text);
    let more = [number("periodic_agent"), one_of("status", &["success", "error", "running"])];
    vec![
        Operation {
            parameters: [filters.to_vec(), more.to_vec(), list()].concat(),
            answers: vec![page("PeriodicAgentLog", examples::log()), field_errors(), no_page()],
            ..operation("GET", format!("{P}/periodic-agent-logs/"), "listLogs", RUNS, "List logs of runs, newest first")
        },
        Operation {
            answers: vec![
                (200, answer("The log.", reference("PeriodicAgentLog"), examples::log())),
                no_such("PeriodicAgentLog"),
            ],
            ..operation("GET", format!("{P}/periodic-agent-logs/{{id}}/"), "getLog", RUNS, "Retrieve the log of a run")
        },
    ]
}

fn mentors() -> Vec<Operation> {
    let one = |status: u16| (status, answer("The mentor.", reference("Mentor"), examples::mentor()));
    let named = format!("{P}/{{mentor}}/");
    let create = |path: String, id, schema, status: u16, example, summary| Operation {
        body: Some(body(schema, form::MENTOR, true, example)),
        answers: vec![one(status), field_errors()],
        ..operation("POST", path, id, MENTORS, summary)
    };
    let templates = json!({ "type": "array", "items": reference("TemplateMentor") });
    vec![
        Operation {
            parameters: [paging(), vec![one_of("filter_by", &["date", "name"])]].concat(),
            answers: vec![page("Mentor", examples::mentor()), no_page()],
            ..operation("GET", format!("{P}/"), "listMentors", MENTORS, "List mentors")
        },
        create(format!("{P}/"), "createMentor", "MentorCreate", 201, examples::mentor_body(), "Create a mentor"),
        create(
            format!("{P}/mentor-with-settings/"),
            "createMentorWithSettings",
            "MentorWithSettings",
            200,
            json!({ "template_name": "ai-mentor", "new_mentor_name": "helper", "system_prompt": "Be brief." }),
            "Create a mentor from a template",
        ),
        create(
            format!("{P}/create-mentor-wizard/"),
            "createMentorByWizard",
            "MentorWizard",
            201,
            json!({ "name": "Weather", "description": "Explains the weather of the coming week." }),
            "Create a mentor that is what its description says",
        ),
        Operation {
            answers: vec![(200, answer("The templates.", templates, examples::templates()))],
            ..operation("GET", format!("{P}/available-template-mentors/"), "listTemplates", MENTORS, "List templates")
        },
        Operation {
            answers: vec![one(200), no_such("Mentor")],
            ..operation(
                "GET",
                format!("{P}/mentors/{{mentor}}/"),
                "findMentor",
                MENTORS,
                "Retrieve a mentor by public id, slug or name",
            )
        },
        Operation {
            answers: vec![one(200), no_such("Mentor")],
            ..operation("GET", named.clone(), "getMentor", MENTORS, "Retrieve a mentor by name, slug or public id")
        },
        Operation {
            body: Some(body("MentorCreate", form::MENTOR, true, examples::mentor_body())),
            answers: vec![one(200), field_errors(), no_such("Mentor")],
            ..operation("PUT", named.clone(), "putMentor", MENTORS, "Change a mentor; what is absent stays")
        },
        Operation {
            body: Some(body("MentorPatch", form::MENTOR, false, json!({ "system_prompt": "Be brief." }))),
            answers: vec![one(200), field_errors(), no_such("Mentor")],
            ..operation("PATCH", named.clone(), "patchMentor", MENTORS, "Change a mentor")
        },
        Operation {
            answers: vec![gone(), no_such("Mentor")],
            ..operation("DELETE", named, "deleteMentor", MENTORS, "Delete a mentor: its agents' ticks are skipped")
        },
    ]
}

fn key_set() -> Operation {
    let schema = json!({
        "type": "object", "required": ["keys"],
        "properties": { "keys": { "type": "array", "items": { "type": "object" } } },
    });
    Operation {
        method: "GET",
        path: "/.well-known/jwks.json".to_owned(),
        id: "getKeySet",
        tag: "sessions",
        summary: "The public keys that session tokens of runs are checked with",
        parameters: Vec::new(),
        body: None,
        answers: vec![(200, answer("A JSON Web Key Set.", schema, json!({ "keys": [] })))],
        open: true,
    }
}

const AGENTS: &str = "periodic agents";
const RUNS: &str = "runs";
const MENTORS: &str = "mentors";

fn operation(
    method: &'static str,
    path: String,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
) -> Operation {
    Operation { method, path, id, tag, summary, parameters: vec![], body: None, answers: vec![], open: false }
}

fn detail(description: &str, text: &str, code: Option<&str>) -> Value {
    let mut example = json!({ "detail": text });
    if let Some(code) = code {
        example["code"] = json!(code);
    }
    answer(description, reference("Detail"), example)
}

/// The answers that every operation may give.
fn with_common_answers(mut operation: Operation) -> Operation {
    let mut common = vec![
        (400, detail("The request cannot be read.", "The request body could not be read.", None)),
        (401, detail("Nobody we know.", "Authentication credentials were not provided.", None)),
        (403, detail("Not allowed.", "You do not have permission to perform this action.", None)),
        (404, detail("It is not there.", "Not found.", None)),
        (406, detail("JSON is not accepted.", "Could not satisfy the request Accept header.", None)),
        (
            503,
            detail(
                "What is needed is away; `Retry-After` says when to ask again.",
                "Service temporarily unavailable, try again later.",
                Some("dispatcher_unavailable"),
            ),
        ),
    ];
    if operation.body.is_some() {
        common.extend([
            (408, detail("The body came too slowly.", "Request body took too long.", None)),
            (413, detail("The body is too large.", "Request body is too large.", None)),
            (415, detail("Another media type.", "Unsupported media type \"text/plain\" in request.", None)),
        ]);
    }
    let has = |status: u16| operation.answers.iter().any(|(other, _)| *other == status);
    common.retain(|(status, _)| !has(*status));
    operation.answers.extend(common);
    operation.answers.sort_by_key(|(status, _)| *status);
    operation
}

fn field_errors() -> (u16, Value) {
    (400, answer("What is wrong, by field.", reference("FieldErrors"), json!({ "title": ["This field is required."] })))
}

fn no_such(object: &str) -> (u16, Value) {
    (404, detail("It is not there.", &format!("No {object} matches the given query."), None))
}

fn no_page() -> (u16, Value) {
    (404, detail("No such page.", "Invalid page.", None))
}

fn gone() -> (u16, Value) {
    (204, json!({ "description": "It is gone." }))
}

fn key_reused() -> (u16, Value) {
    let text = "This `Idempotency-Key` was used for another request: take a new key.";
    (422, detail("The key was used for something else.", text, Some("idempotency_key_reused")))
}

/// A page of these.
fn page(name: &str, example: Value) -> (u16, Value) {
    let example = json!({ "count": 1, "next": null, "previous": null, "results": [example] });
    (200, answer("A page.", reference(&format!("{name}Page")), example))
}

/// A body as JSON, and as both kinds of form: in those the names of nested fields have dots.
fn body(schema: &str, shape: form::Shape, required: bool, example: Value) -> Value {
    let fields: serde_json::Map<String, Value> = shape
        .iter()
        .map(|(name, kind)| {
            let schema = match kind {
                form::Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
                _ => json!({ "type": "string" }),
            };
            ((*name).to_owned(), schema)
        })
        .collect();
    let form = json!({ "schema": { "type": "object", "properties": fields } });
    json!({ "required": required, "content": {
        "application/json": { "schema": reference(schema), "example": example },
        "application/x-www-form-urlencoded": form,
        "multipart/form-data": form,
    } })
}

fn query(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema })
}

fn text(name: &str) -> Value {
    query(name, json!({ "type": "string" }))
}

fn number(name: &str) -> Value {
    query(name, json!({ "type": "integer", "format": "int64" }))
}

fn one_of(name: &str, words: &[&str]) -> Value {
    query(name, json!({ "type": "string", "enum": words }))
}

fn paging() -> Vec<Value> {
    let page = json!({ "oneOf": [{ "type": "integer", "minimum": 1 }, { "const": "last" }] });
    let size = json!({ "type": "integer", "minimum": 1, "default": 25, "description": "At most 100." });
    vec![query("page", page), query("page_size", size)]
}

fn list() -> Vec<Value> {
    let mut parameters = paging();
    parameters.push(query(
        "ordering",
        json!({ "type": "string", "description": "`field` or `-field`, separated by commas." }),
    ));
    parameters.push(query(
        "search",
        json!({ "type": "string", "description": "Every word must be found; \"phrases\" whole." }),
    ));
    parameters
}

fn filters() -> Vec<Value> {
    let statuses = crate::validation::agent::STATUSES;
    vec![
        query("enabled", json!({ "type": "boolean" })),
        text("mentor_id"),
        number("parent_mentor_id"),
        text("parent_session_id"),
        number("previous_agent"),
        one_of("previous_agent_status", &statuses),
        one_of("status", &statuses),
        text("title"),
        text("username"),
    ]
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "Repeated with the same key and body within a day, a request is answered as the first time, and \
            does nothing more.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
    })
}
