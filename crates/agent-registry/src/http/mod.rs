//! The public door: every route of the registry.

mod agent_view;
mod agent_write;
mod agents;
mod callbacks;
mod list;
mod logs;
mod mentor_view;
mod mentors;
mod page;
mod request;
mod runs;
mod templates;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, Route, Scope, web};
use service_kit::error::ApiError;

use crate::state::State;

/// Every route, for one worker of the server.
pub(crate) fn configure(config: &mut web::ServiceConfig, state: &web::Data<State>) {
    config
        .app_data(state.clone())
        .route("/.well-known/jwks.json", web::get().to(get_jwks))
        .service(callbacks::scope())
        .service(user_scope());
}

/// `P`. Literal routes stand before those with a variable in their place.
fn user_scope() -> Scope {
    let scope = web::scope("/api/ai-mentor/orgs/{org}/users/{user_id}")
        .default_service(web::to(async || HttpResponse::from_error(ApiError::not_found())));
    let get = || Method::GET;
    let post = || Method::POST;
    let scope = endpoint(scope, "/mentor-with-settings", &[(post(), || web::to(mentors::create_mentor_with_settings))]);
    let scope = endpoint(scope, "/available-template-mentors", &[(get(), || web::to(templates::list_templates))]);
    let scope = endpoint(scope, "/mentors/{mentor}", &[(get(), || web::to(mentors::get_mentor))]);
    let scope = endpoint(
        scope,
        "/periodic-agents",
        &[(get(), || web::to(agents::list_agents)), (post(), || web::to(agent_write::create_agent))],
    );
    let scope = endpoint(scope, "/periodic-agents/statistics", &[(get(), || web::to(agents::get_statistics))]);
    let scope = endpoint(
        scope,
        "/periodic-agents/{id}",
        &[
            (get(), || web::to(agents::get_agent)),
            (Method::PUT, || web::to(agent_write::put_agent)),
            (Method::PATCH, || web::to(agent_write::patch_agent)),
            (Method::DELETE, || web::to(agent_write::delete_agent)),
        ],
    );
    let scope = endpoint(scope, "/periodic-agents/{id}/run", &[(post(), || web::to(runs::trigger_run))]);
    let scope = endpoint(scope, "/periodic-agents/{id}/ticks", &[(get(), || web::to(runs::list_ticks))]);
    let scope = endpoint(scope, "/periodic-agent-logs", &[(get(), || web::to(logs::list_logs))]);
    let scope = endpoint(scope, "/periodic-agent-logs/{id}", &[(get(), || web::to(logs::get_log))]);
    endpoint(scope, "", &[(get(), || web::to(mentors::list_mentors)), (post(), || web::to(mentors::create_mentor))])
}

/// As [`endpoint`], for those who act in an organisation without naming a user.
fn callbacks_endpoint(scope: Scope, path: &str, methods: &[(Method, MakeRoute)]) -> Scope {
    endpoint_for(scope, path, methods, |state, request| request::admit_to_organisation(state, request).map(|_| ()))
}

/// How a method of a path is answered: routes cannot be copied, so each is made where it is needed.
type MakeRoute = fn() -> Route;

/// Adds a path with its methods: also with `HEAD` where there is `GET`, with 405 for every other method, and with the
/// redirect from the path without its final slash.
fn endpoint(scope: Scope, path: &str, methods: &[(Method, MakeRoute)]) -> Scope {
    endpoint_for(scope, path, methods, |state, request| request::admit(state, request).map(|_| ()))
}

/// Who may know of a path.
type Admit = fn(&State, &HttpRequest) -> Result<(), ApiError>;

fn endpoint_for(scope: Scope, path: &str, methods: &[(Method, MakeRoute)], admit: Admit) -> Scope {
    let mut allowed: Vec<Method> = methods.iter().map(|(method, _)| method.clone()).collect();
    let mut resource = web::resource(format!("{path}/"));
    for (method, route) in methods {
        resource = resource.route(route().method(method.clone()));
        if *method == Method::GET {
            resource = resource.route(route().method(Method::HEAD));
            allowed.push(Method::HEAD);
        }
    }
    allowed.push(Method::OPTIONS);
    let other = move |state: web::Data<State>, request: HttpRequest| {
        let answer = admit(&state, &request).and_then(|()| refuse(&request, &allowed));
        async move { answer }
    };
    scope.service(resource.default_service(web::to(other))).service(web::resource(path).to(add_slash))
}

/// Any other method: known callers learn which there are.
fn refuse(request: &HttpRequest, allowed: &[Method]) -> Result<HttpResponse, ApiError> {
    if *request.method() == Method::OPTIONS {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return Ok(HttpResponse::Ok().insert_header((header::ALLOW, allowed)).finish());
    }
    Err(ApiError::method_not_allowed(request.method(), allowed))
}

/// Every path ends in a slash; one without leads to the one with.
async fn add_slash(request: HttpRequest) -> HttpResponse {
    let (path, query) = (request.uri().path(), request.uri().query());
    let location = query.map_or_else(|| format!("{path}/"), |query| format!("{path}/?{query}"));
    HttpResponse::MovedPermanently().insert_header((header::LOCATION, location)).finish()
}

/// `GET /.well-known/jwks.json`: the public keys of run sessions.
async fn get_jwks(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=300")).json(&state.jwks)
}
