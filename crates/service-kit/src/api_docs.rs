//! The document of an API, and a page to read it and try it: Swagger UI, out of the binary, so that it needs no network.

use std::collections::BTreeSet;
use std::path::Path;

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

const SCRIPT: &[u8] = include_bytes!("../assets/swagger-ui/swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("../assets/swagger-ui/swagger-ui.css.gz");
/// Nothing from anywhere else, and nobody may frame it; Swagger UI sets styles and shows pictures that are data.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";
const CACHE: &str = "public, max-age=86400";

/// Adds the document at `document_path` and the page at `page_path`.
pub fn configure(config: &mut web::ServiceConfig, document_path: &str, page_path: &str, document: Value) {
    let text = web::Bytes::from(document.to_string());
    let start = format!(
        "SwaggerUIBundle({{ url: {document_path:?}, dom_id: '#api', deepLinking: true, persistAuthorization: false }});"
    );
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Carillon API</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"{page_path}/swagger-ui.css\">\n\
         <div id=\"api\"></div>\n<script src=\"{page_path}/swagger-ui-bundle.js\"></script>\n\
         <script src=\"{page_path}/start.js\"></script>\n</html>\n"
    );
    let (text, start, page) = (move || text.clone(), web::Bytes::from(start), web::Bytes::from(page));
    config
        .route(document_path, web::get().to(move || serve("application/json", None, text())))
        .route(&format!("{page_path}/start.js"), web::get().to(move || serve(JAVASCRIPT, None, start.clone())))
        .route(
            &format!("{page_path}/swagger-ui-bundle.js"),
            web::get().to(|| serve(JAVASCRIPT, Some("gzip"), web::Bytes::from_static(SCRIPT))),
        )
        .route(
            &format!("{page_path}/swagger-ui.css"),
            web::get().to(|| serve("text/css; charset=utf-8", Some("gzip"), web::Bytes::from_static(STYLE))),
        )
        .service(
            web::resource([page_path.to_owned(), format!("{page_path}/")])
                .route(web::get().to(move || serve("text/html; charset=utf-8", None, page.clone()))),
        );
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

async fn serve(content_type: &'static str, encoding: Option<&'static str>, body: web::Bytes) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, if encoding.is_some() { CACHE } else { "no-cache" }))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    if let Some(encoding) = encoding {
        response.insert_header((header::CONTENT_ENCODING, encoding));
    }
    response.body(body)
}

/// One operation of an API.
#[derive(Debug, Clone)]
pub struct Operation {
    /// `GET` and so on.
    pub method: &'static str,
    /// Variables stand in braces.
    pub path: String,
    /// Its name for generators of clients.
    pub id: &'static str,
    /// What it belongs to.
    pub tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What it takes beside its path.
    pub parameters: Vec<Value>,
    /// What it takes as its body.
    pub body: Option<Value>,
    /// How it answers, by status.
    pub answers: Vec<(u16, Value)>,
    /// Whether anybody may ask.
    pub open: bool,
}

/// The OpenAPI 3.1 document of these operations. Where a path has a variable, it is an integer if it is an `id`.
pub fn document(info: Value, operations: &[Operation], components: Value, security: Value) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let mut parameters: Vec<Value> = variables(&operation.path).map(path_parameter).collect();
        parameters.extend(operation.parameters.iter().cloned());
        let answers: Map<String, Value> =
            operation.answers.iter().map(|(status, answer)| (status.to_string(), answer.clone())).collect();
        let mut said = json!({
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": operation.summary,
            "parameters": parameters,
            "responses": answers,
        });
        if let Some(body) = &operation.body {
            said["requestBody"] = body.clone();
        }
        if operation.open {
            said["security"] = json!([]);
        }
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        path[operation.method.to_lowercase()] = said;
    }
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{ "url": "/" }],
        "security": security,
        "paths": paths,
        "components": components,
    })
}

fn variables(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "id" => json!({ "type": "integer", "format": "int64" }),
        name if name.ends_with("_id") && name != "user_id" => json!({ "type": "string", "format": "uuid" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

/// A reference to a schema of the document.
#[must_use]
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An answer with a JSON body.
#[must_use]
pub fn answer(description: &str, schema: Value, example: Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema, "example": example } } })
}

/// The schema of a type, with all that it refers to, put into `schemas`.
pub fn add_schema<T: utoipa::ToSchema>(schemas: &mut Map<String, Value>) {
    let mut inner = Vec::new();
    T::schemas(&mut inner);
    inner.push((T::name().into_owned(), T::schema()));
    for (name, schema) in inner {
        schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}

/// Holds a document against the routes that are mounted and against the file that is committed; with `update` it writes
/// the file instead. For tests.
///
/// # Errors
///
/// What is wrong with the document, or what to do about the file.
pub fn check(document: &Value, mounted: &[(Method, String)], file: &Path, update: bool) -> Result<(), String> {
    let operations = described(document);
    let mounted: BTreeSet<String> = mounted.iter().map(|(method, path)| format!("{method} {path}")).collect();
    let described = operations.iter().map(|(name, _)| name.clone()).collect();
    if let Some(one) = mounted.symmetric_difference(&described).next() {
        return Err(format!("`{one}` is mounted, or described, and not both"));
    }
    for (name, operation) in operations {
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            let mut contents = answer["content"].as_object().into_iter().flatten().peekable();
            if contents.peek().is_some() && !contents.any(|(_, content)| !content["example"].is_null()) {
                return Err(format!("`{name}` has no example of its {status}"));
            }
        }
    }
    for part in document.to_string().split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap_or_default();
        if document.pointer(pointer).is_none() {
            return Err(format!("`{pointer}` leads nowhere"));
        }
    }
    check_committed(document, file, update)
}

/// Each operation, by its method and path.
fn described(document: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            operations.push((format!("{} {path}", method.to_uppercase()), operation));
        }
    }
    operations
}

fn check_committed(document: &Value, file: &Path, update: bool) -> Result<(), String> {
    let text = serde_json::to_string_pretty(document).map_err(|error| error.to_string())? + "\n";
    if update {
        return std::fs::write(file, text).map_err(|error| error.to_string());
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let told = format!("{} is not the API's document: run this test once with UPDATE=1", file.display());
    if committed == text { Ok(()) } else { Err(told) }
}
