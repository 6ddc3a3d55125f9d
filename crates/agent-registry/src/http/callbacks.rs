//! `/api/callbacks/orgs/{org}/…`: what became of callbacks, for those who receive them. The deliverer owns the answers.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use chrono::SecondsFormat;
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::error::{ApiError, FieldErrors};
use service_kit::signed_link;

use super::body::{self, Form};
use super::doors::{Door, endpoint};
use super::log_stream;
use super::logs;
use super::page::PageRequest;
use super::request;
use crate::deliverer::Answer;
use crate::state::State;
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::form;
use crate::validation::query::Query;
use crate::validation::time::{BAD_DATETIME, parse};

/// The whole log of a run, for a callback that could not hold it.
pub(super) const WHOLE_LOG: &str = "/api/callbacks/orgs/{org}/logs/{id}/";

/// Whoever has the link may read: no caller is asked for.
pub(super) fn whole_log() -> Resource {
    web::resource(WHOLE_LOG).route(web::get().to(get_whole_log)).route(web::head().to(get_whole_log)).default_service(
        web::to(async |request: HttpRequest| {
            let allowed = [actix_web::http::Method::GET, actix_web::http::Method::HEAD];
            HttpResponse::from_error(ApiError::method_not_allowed(request.method(), &allowed))
        }),
    )
}

/// The routes of callbacks.
pub(super) fn door() -> Door {
    let get = || actix_web::http::Method::GET;
    let post = || actix_web::http::Method::POST;
    let door = Door::new("/api/callbacks/orgs/{org}");
    let door = endpoint(door, "/deliveries", &[(get(), || web::to(list_deliveries))]);
    let door = endpoint(door, "/deliveries/{id}", &[(get(), || web::to(get_delivery))]);
    let door = endpoint(door, "/deliveries/{id}/replay", &[(post(), || web::to(replay_delivery))]);
    let door = endpoint(door, "/replays", &[(post(), || web::to(create_replay))]);
    let door = endpoint(door, "/replays/{id}", &[(get(), || web::to(get_replay))]);
    let door = endpoint(door, "/endpoints/{id}", &[(get(), || web::to(get_endpoint))]);
    let door = endpoint(door, "/endpoints/{id}/test", &[(post(), || web::to(test_endpoint))]);
    endpoint(door, "/endpoints/{id}/enable", &[(post(), || web::to(enable_endpoint))])
}

/// `GET …/deliveries/?periodic_agent=&log=&status=&created_after=`: newest first.
async fn list_deliveries(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to(&request, &request::organisation(&request)?)?.organisation;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let filter = read_filter(&query)?;
    let asked = page.nth().unwrap_or(1);
    let (count, mut results) = match ask_page(&state, &organisation, &filter, asked, page.size).await? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let page_of = page.of(count)?;
    if page_of.number != asked {
        // Which page is the last shows only in the answer.
        match ask_page(&state, &organisation, &filter, page_of.number, page.size).await? {
            Ok((_, last)) => results = last,
            Err(refused) => return Ok(refused),
        }
    }
    Ok(page_of.answer(&state, &request, &query, results))
}

/// What the list is narrowed to, as the deliverer takes it, which alone knows the words of `status`. What is there no
/// more, as an agent that was deleted, may still have deliveries.
fn read_filter(query: &Query) -> Result<Vec<(&'static str, String)>, ApiError> {
    let (mut errors, mut filter) = (FieldErrors::new(), Vec::new());
    for name in ["periodic_agent", "log"] {
        filter.extend(query.id(name, &mut errors).map(|id| (name, id.to_string())));
    }
    filter.extend(query.text("status").map(|word| ("status", word.to_owned())));
    if let Some(text) = query.text("created_after") {
        match parse(text) {
            Some(moment) => filter.push(("created_after", moment.to_rfc3339_opts(SecondsFormat::Micros, true))),
            None => errors.add("created_after", BAD_DATETIME),
        }
    }
    errors.into_result()?;
    Ok(filter)
}

/// How many there are and those of one page, or the deliverer's refusal.
async fn ask_page(
    state: &State,
    organisation: &str,
    filter: &[(&'static str, String)],
    page: i64,
    size: i64,
) -> Result<Result<(i64, Vec<Value>), HttpResponse>, ApiError> {
    let (page, size) = (page.to_string(), size.to_string());
    let mut asked = vec![("organisation", organisation), ("page", &page), ("page_size", &size)];
    asked.extend(filter.iter().map(|(name, value)| (*name, value.as_str())));
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
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to(&request, &request::organisation(&request)?)?.organisation;
    let body = body::read(&state, &request, payload, Form::whole(form::REPLAY)).await?;
    let faults = Faults::default();
    let mut wanted = json!({ "organisation": organisation });
    if let Some(fields) = Fields::of(&body, Presence::Whole, &faults) {
        wanted["since"] = json!(fields.required("since").and_then(|_| fields.datetime("since")).flatten());
        wanted["periodic_agent"] = json!(fields.integer("periodic_agent").flatten());
        if let Some(status) = fields.text("status", Text::OPTIONAL) {
            wanted["status"] = status.into();
        }
    }
    faults.into_errors().into_result()?;
    Ok(show(state.deliverer.ask(Method::POST, &["replays"], &[], Some(&wanted)).await?))
}

/// Asks the deliverer for one thing of the organisation, or to do something with it.
async fn forward(
    state: &State,
    request: &HttpRequest,
    method: Method,
    what: &str,
    verb: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit_to(request, &request::organisation(request)?)?.organisation;
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
/// Never less than the whole: while that is neither here nor to be asked for, 503.
async fn get_whole_log(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::organisation(&request)?;
    let query = request::query(&request);
    let signature = query.text("signature").unwrap_or_default();
    let id: i64 = request.match_info().get("id").and_then(|id| id.parse().ok()).ok_or_else(ApiError::not_found)?;
    if !signed_link::verify(&state.keys, &organisation, id, signature) {
        return Err(ApiError::not_found());
    }
    let log = logs::find(&state, &organisation, id).await?.ended()?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    Ok(log_stream::content(&state, &mut response, log))
}
