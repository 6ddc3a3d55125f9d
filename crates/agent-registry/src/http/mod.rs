//! The public door: every route of the registry.
//!
//! Routes are declared as a list, which the server is built from and which [`operations`] tells: so a test can hold
//! every one of them against the table of who may do what, and against the API's document.

mod agent_pause;
mod agent_view;
mod agent_write;
mod agents;
mod api_keys;
mod audit_log;
mod body;
mod callbacks;
mod doors;
mod list;
mod list_stream;
mod log_stream;
mod logs;
mod mentor_view;
mod mentors;
mod of_agent;
mod openapi;
mod organisation_view;
mod organisations;
mod page;
mod pauses;
mod request;
mod runs;
mod schedule;
mod secrets;
mod templates;
mod users;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use service_kit::api_docs;
use service_kit::error::ApiError;

use self::doors::{Door, endpoint};
use crate::state::State;

/// Every route, for one worker of the server.
pub(crate) fn configure(config: &mut web::ServiceConfig, state: &web::Data<State>) {
    config.app_data(state.clone()).service(key_set()).service(callbacks::whole_log());
    api_docs::configure(config, "/openapi.json", "/docs", openapi::document());
    for door in doors() {
        config.service(door.into_scope());
    }
}

/// Everything that wants to know who is asking.
fn doors() -> Vec<Door> {
    vec![user_door(), core_door(), callbacks::door()]
}

/// Every operation there is: its method, and its path with variables in braces.
pub(crate) fn operations() -> Vec<(Method, String)> {
    let open = [JWKS, callbacks::WHOLE_LOG].map(|path| (Method::GET, path.to_owned()));
    open.into_iter().chain(doors().iter().flat_map(Door::operations)).collect()
}

/// Open to everyone, as is [`callbacks::WHOLE_LOG`] to whoever has the link.
const JWKS: &str = "/.well-known/jwks.json";

/// `/api/core`: organisations, their API keys and audit logs, and pausing everything.
fn core_door() -> Door {
    let door = Door::new("/api/core");
    let get = || Method::GET;
    let post = || Method::POST;
    let door = endpoint(
        door,
        "/platform/api-tokens",
        &[(get(), || web::to(api_keys::list_api_keys)), (post(), || web::to(api_keys::create_api_key))],
    );
    let door = endpoint(door, "/platform/api-tokens/{name}", &[(Method::DELETE, || web::to(api_keys::delete_api_key))])
        .also_without_slash();
    let door = endpoint(door, "/orgs", &[(get(), || web::to(organisations::list_organisations))]);
    let door = endpoint(
        door,
        "/orgs/{org}",
        &[
            (get(), || web::to(organisations::get_organisation)),
            (Method::PATCH, || web::to(organisations::patch_organisation)),
            (Method::DELETE, || web::to(organisations::delete_organisation)),
        ],
    );
    let door = endpoint(door, "/orgs/{org}/audit-log", &[(get(), || web::to(audit_log::list_changes))]);
    let door = endpoint(door, "/orgs/{org}/users/{name}/revoke", &[(post(), || web::to(users::revoke_user))]);
    let door = endpoint(door, "/orgs/{org}/users/{name}/restore", &[(post(), || web::to(users::restore_user))]);
    let door = endpoint(door, "/pause", &[(post(), || web::to(pauses::pause_everything))]);
    endpoint(door, "/resume", &[(post(), || web::to(pauses::resume_everything))])
}

/// `P`. Literal routes stand before those with a variable in their place.
fn user_door() -> Door {
    let scope = Door::new("/api/ai-mentor/orgs/{org}/users/{user_id}");
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
    let scope = endpoint(scope, "/periodic-agents/{id}/rotate-secret", &[(post(), || web::to(secrets::rotate_secret))]);
    let scope = endpoint(scope, "/periodic-agents/{id}/ticks", &[(get(), || web::to(runs::list_ticks))]);
    let scope = endpoint(scope, "/periodic-agents/{id}/pause", &[(post(), || web::to(agent_pause::pause_agent))]);
    let scope = endpoint(scope, "/periodic-agents/{id}/resume", &[(post(), || web::to(agent_pause::resume_agent))]);
    let scope = endpoint(scope, "/periodic-agents/{id}/upcoming", &[(get(), || web::to(schedule::list_upcoming))]);
    let scope = endpoint(scope, "/crontab/preview", &[(post(), || web::to(schedule::preview_crontab))]);
    let scope = endpoint(scope, "/periodic-agent-logs/{id}/cancel", &[(post(), || web::to(schedule::cancel_run))]);
    let scope = endpoint(scope, "/periodic-agent-logs", &[(get(), || web::to(logs::list_logs))]);
    let scope = endpoint(scope, "/periodic-agent-logs/{id}", &[(get(), || web::to(logs::get_log))]);
    let scope = endpoint(scope, "/create-mentor-wizard", &[(post(), || web::to(mentors::create_mentor_by_wizard))]);
    // After every literal name in its place.
    let scope = endpoint(
        scope,
        "/{mentor}",
        &[
            (get(), || web::to(mentors::get_mentor)),
            (Method::PUT, || web::to(mentors::put_mentor)),
            (Method::PATCH, || web::to(mentors::patch_mentor)),
            (Method::DELETE, || web::to(mentors::delete_mentor)),
        ],
    );
    endpoint(scope, "", &[(get(), || web::to(mentors::list_mentors)), (post(), || web::to(mentors::create_mentor))])
}

fn key_set() -> Resource {
    let resource = web::resource(JWKS).route(web::get().to(get_jwks)).route(web::head().to(get_jwks));
    resource.default_service(web::to(async |request: HttpRequest| {
        HttpResponse::from_error(ApiError::method_not_allowed(request.method(), &[Method::GET, Method::HEAD]))
    }))
}

/// `GET /.well-known/jwks.json`: the public keys of run sessions.
async fn get_jwks(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=300")).json(&state.jwks)
}
