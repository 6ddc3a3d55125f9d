//! `/api/callbacks/orgs/{org}/…`: what became of callbacks, for those who receive them. The deliverer owns the answers.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Scope, web};
use reqwest::Method;
use serde_json::Value;
use service_kit::error::{ApiError, FieldErrors};
use service_kit::signed_link;

use super::page::PageRequest;
use super::request;
use crate::deliverer::Answer;
use crate::state::State;
use crate::store::{agents, logs};

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a list of deliveries may be narrowed by.
const FILTERS: [&str; 4] = ["periodic_agent", "log", "status", "created_after"];

/// The routes of callbacks.
pub(super) fn scope() -> Scope {
    let get = || actix_web::http::Method::GET;
    let post = || actix_web::http::Method::POST;
    let scope = web::scope("/api/callbacks/orgs/{org}")
        .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
        .default_service(web::to(async || HttpResponse::from_error(ApiError::not_found())));
    // Whoever has the link may read: no caller is asked for.
    let scope = scope.service(web::resource("/logs/{id}/").route(web::get().to(get_whole_log)));
    let endpoint = super::callbacks_endpoint;
    let scope = endpoint(scope, "/deliveries", &[(get(), || web::to(list_deliveries))]);
    let scope = endpoint(scope, "/deliveries/{id}", &[(get(), || web::to(get_delivery))]);
    let scope = endpoint(scope, "/deliveries/{id}/replay", &[(post(), || web::to(replay_delivery))]);
    let scope = endpoint(scope, "/replays", &[(post(), || web::to(create_replay))]);
    let scope = endpoint(scope, "/replays/{id}", &[(get(), || web::to(get_replay))]);
    let scope = endpoint(scope, "/endpoints/{id}", &[(get(), || web::to(get_endpoint))]);
    let scope = endpoint(scope, "/endpoints/{id}/test", &[(post(), || web::to(test_endpoint))]);
    endpoint(scope, "/endpoints/{id}/enable", &[(post(), || web::to(enable_endpoint))])
}

/// `GET …/deliveries/?periodic_agent=&log=&status=&created_after=`: newest first.
async fn list_deliveries(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to_organisation(&state, &request)?;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let asked = page.nth().unwrap_or(1);
    let (count, mut results) = match ask_page(&state, &organisation, &query, asked, page.size).await? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let page_of = page.of(count)?;
    if page_of.number != asked {
        // Which page is the last shows only in the answer.
        match ask_page(&state, &organisation, &query, page_of.number, page.size).await? {
            Ok((_, last)) => results = last,
            Err(refused) => return Ok(refused),
        }
    }
    Ok(page_of.answer(&state, &request, &query, results))
}

/// How many there are and those of one page, or the deliverer's refusal.
async fn ask_page(
    state: &State,
    organisation: &str,
    query: &crate::validation::query::Query,
    page: i64,
    size: i64,
) -> Result<Result<(i64, Vec<Value>), HttpResponse>, ApiError> {
    let (page, size) = (page.to_string(), size.to_string());
    let mut asked = vec![("organisation", organisation), ("page", &page), ("page_size", &size)];
    asked.extend(FILTERS.iter().filter_map(|name| Some((*name, query.text(name)?))));
    let Answer { status, mut body } = state.deliverer.ask(Method::GET, &["deliveries"], &asked, None).await?;
    if !status.is_success() {
        return Ok(Err(show(Answer { status, body })));
    }
    let results = body["results"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(Ok((body["count"].as_i64().unwrap_or(0), results)))
}

/// `GET …/deliveries/{id}/`: with its delivery attempts.
async fn get_delivery(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    forward(&state, &request, Method::GET, "deliveries", None).await
}

/// `POST …/deliveries/{id}/replay/`: it is made once more, under the same id.
async fn replay_delivery(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    forward(&state, &request, Method::POST, "deliveries", Some("replay")).await
}

/// `GET …/replays/{id}/`: how far a job has come.
async fn get_replay(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    forward(&state, &request, Method::GET, "replays", None).await
}

/// `GET …/endpoints/{periodic_agent}/`
async fn get_endpoint(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    forward(&state, &request, Method::GET, "endpoints", None).await
}

/// `POST …/endpoints/{periodic_agent}/test/`: a ping.
async fn test_endpoint(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    forward(&state, &request, Method::POST, "endpoints", Some("test")).await
}

/// `POST …/endpoints/{periodic_agent}/enable/`
async fn enable_endpoint(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let answer = forward(&state, &request, Method::POST, "endpoints", Some("enable")).await?;
    state.deliverer.endpoint_changed.notify_one();
    Ok(answer)
}

/// `POST …/replays/` `{since, periodic_agent?, status?}`: a job.
async fn create_replay(
    state: web::Data<State>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to_organisation(&state, &request)?;
    let mut body: Value = serde_json::from_slice(&body)
        .map_err(|error| ApiError::detail(StatusCode::BAD_REQUEST, format!("JSON parse error - {error}")))?;
    let mut errors = FieldErrors::new();
    match body["since"].as_str().map(str::parse::<chrono::DateTime<chrono::Utc>>) {
        Some(Ok(_)) => {}
        Some(Err(_)) => errors.add("since", "Enter a valid date/time, as 2026-03-01T12:00:00Z."),
        None => errors.add("since", "This field is required."),
    }
    if !body["periodic_agent"].is_null() && body["periodic_agent"].as_i64().is_none() {
        errors.add("periodic_agent", "A valid integer is required.");
    }
    if !body["status"].is_null() && !body["status"].is_string() {
        errors.add("status", "Not a valid string.");
    }
    errors.into_result()?;
    body["organisation"] = organisation.into();
    Ok(show(state.deliverer.ask(Method::POST, &["replays"], &[], Some(&body)).await?))
}

/// Asks the deliverer for one thing of the organisation, or to do something with it.
async fn forward(
    state: &State,
    request: &HttpRequest,
    method: Method,
    what: &str,
    verb: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to_organisation(state, request)?;
    let id = request.match_info().get("id").unwrap_or_default();
    // What is no number leads nowhere, there or here.
    id.parse::<i64>().map_err(|_| ApiError::not_found())?;
    let path: Vec<&str> = [what, id].into_iter().chain(verb).collect();
    let answer = state.deliverer.ask(method, &path, &[("organisation", &organisation)], None).await?;
    Ok(show(answer))
}

fn show(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    HttpResponse::build(status).json(answer.body)
}

/// `GET …/logs/{id}/?signature=`: the whole text of a log that was too long for its callback, as long as it is kept.
async fn get_whole_log(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::organisation(&request)?;
    let query = request::query(&request);
    let signature = query.text("signature").unwrap_or_default();
    let id: i64 = request.match_info().get("id").and_then(|id| id.parse().ok()).ok_or_else(ApiError::not_found)?;
    if !signed_link::verify(&state.keys, &organisation, id, signature) {
        return Err(ApiError::not_found());
    }
    let found = state.db.read(move |conn| {
        let log = logs::find(conn, id)?.filter(|log| log.row.organisation == organisation);
        let Some(log) = log else { return Ok(None) };
        let agent = agents::find(conn, &organisation, log.row.agent_id)?;
        Ok::<_, ApiError>(agent.map(|_| log.body.content))
    });
    let content = found.await?.ok_or_else(ApiError::not_found)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .body(content))
}
