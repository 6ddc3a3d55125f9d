//! The API's document, OpenAPI 3.1: made of the types that answers are written from, and of one table of operations.
//!
//! A test holds it against the routes that are mounted, and against `docs/openapi-services.json`.

use serde_json::{Map, Value, json};
use service_kit::api_docs::{self, Operation, add_schema, answer, reference};

use super::view;
use crate::refusal::Fault;
use crate::validation::service::TASK_TYPES;

const SERVICE_ID: &str = "0b8f9f9e-6a43-4b7c-9d0e-3f1f0c6a2b11";
const GROUP_ID: &str = "4e1d5c9e-58c5-4f0e-9a53-2f4f0f6f3a10";

/// The document.
pub(crate) fn document() -> Value {
    let info = json!({
        "title": "Carillon: services",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "What agents offer: services, and groups of them. Bodies are JSON whatever the content type says. \
            Every path may end in a slash. What is read has an `ETag`; who sends it as `If-None-Match` is answered 304 \
            while it is the same.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    let components = json!({ "schemas": schemas(), "securitySchemes": { "bearer": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
    } } });
    let operations: Vec<Operation> =
        [services(), connections(), groups()].concat().into_iter().map(with_common_answers).collect();
    api_docs::document(info, &operations, components, json!([{ "bearer": [] }]))
}

fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    add_schema::<view::ServiceView>(&mut schemas);
    add_schema::<view::SummaryView>(&mut schemas);
    add_schema::<view::GroupView>(&mut schemas);
    add_schema::<Fault>(&mut schemas);
    let detail = json!({ "type": "object", "required": ["detail"], "properties": { "detail": { "type": "string" } } });
    let faults = json!({
        "type": "object",
        "required": ["detail"],
        "properties": { "detail": { "type": "array", "items": reference("Fault") } },
    });
    let group = json!({
        "type": "object",
        "required": ["name", "isPrivate"],
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 255 },
            "isPrivate": { "type": "boolean" },
        },
    });
    let connection = json!({
        "type": "object",
        "required": ["service", "serviceGroup"],
        "properties": {
            "service": { "type": "string", "format": "uuid" },
            "serviceGroup": { "type": "string", "format": "uuid" },
        },
    });
    for (name, schema) in [
        ("Detail", detail),
        ("Faults", faults),
        ("ServiceCreate", service_body(false)),
        ("ServiceUpdate", service_body(true)),
        ("ServiceGroupCreate", group),
        ("Connection", connection),
        ("Nothing", json!({ "type": "object", "maxProperties": 0 })),
    ] {
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

/// Digests and names are relaxed: digests may come without their prefix, names without a protocol.
fn service_body(with_id: bool) -> Value {
    let text = |max: u32| json!({ "type": "string", "minLength": 1, "maxLength": max });
    let nullable = json!({ "type": ["string", "null"], "maxLength": 255 });
    let field = json!({
        "type": "object",
        "required": ["name", "required", "field_type", "description"],
        "properties": {
            "name": text(255),
            "required": { "type": "boolean" },
            "field_type": text(255),
            "description": { "type": "string", "maxLength": 10000 },
        },
    });
    const FIELDS: &str = "Each name once; at most 65536 bytes as JSON.";
    let mut schema = json!({
        "type": "object",
        "required": [
            "agent", "name", "description", "protocolDigest", "modelDigest", "modelName", "fields", "taskType",
        ],
        "properties": {
            "agent": {
                "type": "string",
                "description": "The last six characters check the rest.",
                "pattern": "^agent1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{59}$",
            },
            "name": text(255),
            "description": text(10_000),
            "protocolDigest": { "type": "string", "pattern": "^(proto:)?[0-9a-f]{64}$" },
            "modelDigest": { "type": "string", "pattern": "^(model:)?[0-9a-f]{64}$" },
            "modelName": text(255),
            "fields": { "type": "array", "maxItems": 100, "items": field, "description": FIELDS },
            "taskType": { "type": "string", "enum": TASK_TYPES },
            "category": nullable,
            "location": nullable,
            "endpoint": { "type": ["string", "null"], "maxLength": 2000, "description": "Where runs call it." },
        },
    });
    if with_id {
        schema["properties"]["uuid"] = json!({ "type": "string", "format": "uuid" });
        if let Some(required) = schema["required"].as_array_mut() {
            required.push(json!("uuid"));
        }
    }
    schema
}

fn service_example() -> Value {
    json!({
        "agent": "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy",
        "name": "Stock price service",
        "description": "Retrieves the stock price of a share.",
        "protocolDigest": "proto:05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a",
        "modelDigest": "model:4ec922f7f18419cf7c6742f96eb4543a7ed5c131af077ca2b267607f65e62eb2",
        "modelName": "StockPrice/StocksProtocol",
        "fields": [{ "name": "symbol", "required": true, "field_type": "string", "description": "As AAPL." }],
        "taskType": "task",
    })
}

fn whole_service() -> Value {
    let mut service = service_example();
    let more = json!({
        "uuid": SERVICE_ID, "category": null, "location": null, "created_at": "2026-11-21T12:00:00",
        "updated_at": "2026-11-21T12:00:00", "num_conversions": 0, "conversion_rate": 0, "uptime": 0, "endpoint": null,
    });
    if let (Some(service), Some(more)) = (service.as_object_mut(), more.as_object()) {
        service.extend(more.clone());
    }
    service
}

fn summary() -> Value {
    let whole = whole_service();
    let keys = ["uuid", "agent", "name", "description", "created_at", "updated_at"];
    keys.into_iter().map(|key| (key.to_owned(), whole[key].clone())).collect::<Map<_, _>>().into()
}

fn services() -> Vec<Operation> {
    let list = || {
        let kinds = json!({ "type": "string", "enum": TASK_TYPES });
        let uuid = json!({ "type": "string", "format": "uuid" });
        let own = [
            query("search", json!({ "type": "string", "maxLength": 255 })),
            query("group", json!({ "anyOf": [uuid, { "const": "" }] })),
            query("taskType", kinds),
            query("agent", json!({ "type": "string", "pattern": "^agent1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{59}$" })),
        ];
        [own.to_vec(), window()].concat()
    };
    let array = || (200, answer("The caller's.", array_of("ServiceSummary"), json!([summary()])));
    let one = || (200, answer("The service.", reference("Service"), whole_service()));
    let mut changed = whole_service();
    changed["name"] = json!("Prices");
    vec![
        Operation {
            parameters: list(),
            answers: vec![array()],
            ..operation("GET", "/services", "listServices", SERVICES, "List the caller's services")
        },
        Operation {
            body: Some(body("ServiceCreate", service_example())),
            answers: vec![one(), too_many()],
            ..operation("POST", "/services", "createService", SERVICES, "Register a service")
        },
        Operation {
            body: Some(body("ServiceUpdate", changed)),
            answers: vec![one()],
            ..operation("PUT", "/services", "putService", SERVICES, "Change the service that the body names")
        },
        Operation {
            answers: vec![one()],
            ..operation("GET", "/services/{service_id}", "getService", SERVICES, "Retrieve a service")
        },
        Operation {
            answers: vec![nothing()],
            ..operation("DELETE", "/services/{service_id}", "deleteService", SERVICES, "Delete a service")
        },
        Operation {
            parameters: list(),
            answers: vec![array()],
            ..operation("GET", "/functions", "listFunctions", SERVICES, "List the caller's services, as functions")
        },
    ]
}

fn connections() -> Vec<Operation> {
    let pair = json!({ "service": SERVICE_ID, "serviceGroup": GROUP_ID });
    let groups_of = |path, id| Operation {
        answers: vec![(200, answer("The groups.", array_of("ServiceGroup"), json!([group_example()])))],
        ..operation("GET", path, id, GROUPS, "List the caller's groups that a service is in")
    };
    vec![
        Operation {
            body: Some(body("Connection", pair.clone())),
            answers: vec![(200, answer("It is in the group.", reference("Connection"), pair))],
            ..operation("POST", "/services/service-sg", "connectService", GROUPS, "Put a service into a group")
        },
        Operation {
            answers: vec![nothing()],
            ..operation(
                "DELETE",
                "/services/service-sg/{service_id}/{group_id}",
                "disconnectService",
                GROUPS,
                "Take a service out of a group",
            )
        },
        groups_of("/services/{service_id}/groups", "listGroupsOfService"),
        groups_of("/function/{service_id}/groups", "listGroupsOfFunction"),
    ]
}

/// Groups have two names: this API's own, and that of a later one.
fn groups() -> Vec<Operation> {
    let all = |paths: [&'static str; 3], ids: [&'static str; 6]| {
        let [list, public, one_path] = paths;
        let many = || (200, answer("The groups.", array_of("ServiceGroup"), json!([group_example()])));
        let one = || (200, answer("The group.", reference("ServiceGroup"), group_example()));
        let written = || Some(body("ServiceGroupCreate", json!({ "name": "My Services", "isPrivate": true })));
        vec![
            Operation {
                parameters: window(),
                answers: vec![many()],
                ..operation("GET", list, ids[0], GROUPS, "List the caller's groups")
            },
            Operation {
                body: written(),
                answers: vec![one(), too_many()],
                ..operation("POST", list, ids[1], GROUPS, "Create a group")
            },
            Operation {
                parameters: window(),
                answers: vec![many()],
                ..operation("GET", public, ids[2], GROUPS, "List the public groups of the caller's organisation")
            },
            Operation { answers: vec![one()], ..operation("GET", one_path, ids[3], GROUPS, "Retrieve a group") },
            Operation {
                body: written(),
                answers: vec![one()],
                ..operation("PUT", one_path, ids[4], GROUPS, "Change a group")
            },
            Operation {
                answers: vec![nothing()],
                ..operation("DELETE", one_path, ids[5], GROUPS, "Delete a group; its services stay")
            },
        ]
    };
    let names = |path, id, group: &str, services: &str| {
        let schema = json!({
            "type": "object",
            "required": [group, services],
            "properties": {
                group: { "type": "string", "format": "uuid" },
                services: { "type": "array", "items": { "type": "string" } },
            },
        });
        let example = json!({ group: GROUP_ID, services: ["Stock price service"] });
        Operation {
            answers: vec![(200, answer("The names.", schema, example))],
            ..operation("GET", path, id, GROUPS, "List the names of the services in a group")
        }
    };
    let own = all(
        ["/service-groups", "/service-groups/public", "/service-groups/{group_id}"],
        ["listGroups", "createGroup", "listPublicGroups", "getGroup", "putGroup", "deleteGroup"],
    );
    let later = all(
        ["/function-groups", "/function-groups/public", "/function-groups/{group_id}"],
        [
            "listFunctionGroups",
            "createFunctionGroup",
            "listPublicFunctionGroups",
            "getFunctionGroup",
            "putFunctionGroup",
            "deleteFunctionGroup",
        ],
    );
    let inside = vec![
        names("/service-groups/{group_id}/services", "listServicesOfGroup", "service_group", "services"),
        names("/function-groups/{group_id}/functions", "listFunctionsOfGroup", "function_group", "functions"),
    ];
    [own, later, inside].concat()
}

const SERVICES: &str = "services";
const GROUPS: &str = "groups";

fn operation(
    method: &'static str,
    path: &str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
) -> Operation {
    let path = format!("/v1beta1{path}");
    Operation { method, path, id, tag, summary, parameters: vec![], body: None, answers: vec![], open: false }
}

fn with_common_answers(mut operation: Operation) -> Operation {
    let detail = |text: &str| answer(text, reference("Detail"), json!({ "detail": text }));
    let fault = json!({ "loc": ["body", "name"], "msg": "Field required", "type": "missing" });
    let away = json!({ "detail": "Service temporarily unavailable, try again later.", "code": "database_unavailable" });
    operation.answers.extend([
        (400, detail("The request cannot be read.")),
        (401, detail("Authentication credentials were not provided.")),
        (403, detail("You do not have permission to perform this action.")),
        (404, detail("Service not found")),
        (408, detail("Request body took too long.")),
        (413, detail("Request body is too large.")),
        (422, answer("What is wrong, and where.", reference("Faults"), json!({ "detail": [fault] }))),
        (503, answer("What is needed is away.", reference("Detail"), away)),
    ]);
    if operation.method == "GET" {
        operation.answers.push((304, json!({ "description": "The client has it already." })));
    }
    operation.answers.sort_by_key(|(status, _)| *status);
    operation
}

fn too_many() -> (u16, Value) {
    let text = "You have 1000 services, the most that one user may have: delete some first";
    (409, answer("As many as one user may have.", reference("Detail"), json!({ "detail": text })))
}

fn nothing() -> (u16, Value) {
    (200, answer("It is done.", reference("Nothing"), json!({})))
}

fn group_example() -> Value {
    json!({ "uuid": GROUP_ID, "name": "My Services", "isPrivate": true })
}

fn array_of(name: &str) -> Value {
    json!({ "type": "array", "items": reference(name) })
}

fn body(schema: &str, example: Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": reference(schema), "example": example } } })
}

fn query(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema })
}

fn window() -> Vec<Value> {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 1000 });
    let offset = json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0 });
    vec![query("limit", limit), query("offset", offset)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_document_is_the_committed_one_and_has_every_mounted_route_and_nothing_else() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi-services.json"));
        let update = std::env::var_os("UPDATE").is_some();
        service_kit::api_docs::check(&super::document(), &crate::http::operations(), file, update).unwrap();
    }
}
