//! Every operation: what it takes, how it answers.

use serde_json::{Value, json};
use service_kit::api_docs::{Operation, answer, reference};

use super::parts::{
    being_erased, body, boolean, field_errors, filters, gone, idempotency_key, key_reused, linked, list, moment,
    no_page, no_such, number, one_of, operation, page, paging, query, text, with_common_answers,
};
use super::{callbacks, core, examples, schedule};
use crate::validation::form;

const P: &str = "/api/ai-mentor/orgs/{org}/users/{user_id}";

/// All of them, in the order in which a reader wants them.
pub(super) fn all() -> Vec<Operation> {
    let asked = [agents(), runs(), logs(), schedule::all(), mentors(), callbacks::all(), core::all()].concat();
    asked.into_iter().map(with_common_answers).chain([key_set(), callbacks::whole_log()]).collect()
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
            answers: vec![one(201, "It is created."), field_errors(), being_erased(), key_reused()],
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
    let outcomes = query("outcome", json!({ "type": "string", "pattern": "^(run|skipped)(,(run|skipped))*$" }));
    let deleted = json!({ "detail": "The mentor of this agent was deleted: give it another one first.", "code": "mentor_deleted" });
    vec![
        Operation {
            parameters: vec![idempotency_key()],
            body: Some(body("RunCreate", form::TRIGGER, false, json!({ "prompt": "Just this once" }))),
            answers: vec![
                (202, answer("The run's log.", reference("PeriodicAgentLog"), examples::log())),
                field_errors(),
                no_such("PeriodicAgent"),
                (409, answer("It cannot run: `mentor_deleted`, `creator_not_allowed`.", reference("Detail"), deleted)),
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
            parameters: [paging(), vec![outcomes, moment("from"), moment("to")]].concat(),
            answers: vec![page("Tick", examples::tick()), field_errors(), no_such("PeriodicAgent")],
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

fn mentor_filters() -> Vec<Value> {
    let words = ["viewable_by_anyone", "viewable_by_tenant_students", "viewable_by_tenant_admins"];
    vec![
        one_of("filter_by", &["date", "name"]),
        boolean("is_featured"),
        one_of("visibility", &words),
        text("metadata_key"),
        text("metadata_value"),
        number("department_id"),
        boolean("return_session_information"),
    ]
}

fn mentors() -> Vec<Operation> {
    let one = |status: u16| (status, answer("The mentor.", reference("Mentor"), examples::mentor()));
    let named = format!("{P}/{{mentor}}/");
    let create = |path: String, id, schema, status: u16, example, summary| Operation {
        body: Some(body(schema, form::MENTOR, true, example)),
        answers: vec![linked(one(status), "createPeriodicAgent", yearly()), field_errors(), being_erased()],
        ..operation("POST", path, id, MENTORS, summary)
    };
    let templates = json!({ "type": "array", "items": reference("TemplateMentor") });
    vec![
        Operation {
            parameters: [paging(), mentor_filters()].concat(),
            answers: vec![page("Mentor", examples::mentor()), field_errors(), no_page()],
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

/// An agent of the mentor in the answer.
fn yearly() -> Value {
    let crontab = json!({ "minute": "0", "hour": "0", "day_of_month": "1", "month_of_year": "1" });
    json!({ "mentor": "$response.body#/unique_id", "title": "Yearly", "task": { "crontab": crontab } })
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
