//! The public door: every route of the registry.

mod answer;
pub(crate) mod callable;
mod connections;
mod groups;
mod openapi;
mod request;
mod services;
mod view;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, Route, web};
use service_kit::api_docs;

use crate::State;
use crate::refusal::Refusal;

/// Every route, for one worker of the server.
pub(crate) fn configure(config: &mut web::ServiceConfig, state: &web::Data<State>) {
    api_docs::configure(config, "/v1beta1/openapi.json", "/v1beta1/docs", openapi::document());
    config.service(door().into_scope(state));
}

/// Every operation there is: its method, and its path with variables in braces.
pub(crate) fn operations() -> Vec<(Method, String)> {
    let of = |endpoint: &Endpoint| {
        let methods = endpoint.methods.iter();
        methods
            .flat_map(|(method, _)| endpoint.paths.iter().map(|path| (method.clone(), format!("{PREFIX}{path}"))))
            .collect::<Vec<_>>()
    };
    door().0.iter().flat_map(of).collect()
}

const PREFIX: &str = "/v1beta1";

/// Literal routes stand before those with a variable in their place. `function…` is what a later API calls the same
/// things; its client `ai-engine-sdk` uses those names.
fn door() -> Door {
    let scope = Door(Vec::new());
    let (get, post, put, delete) = (|| Method::GET, || Method::POST, || Method::PUT, || Method::DELETE);

    let scope = endpoint(
        scope,
        &["/services"],
        &[
            (get(), || web::to(services::list_services)),
            (post(), || web::to(services::create_service)),
            (put(), || web::to(services::put_service)),
        ],
    );
    let scope = endpoint(scope, &["/services/service-sg"], &[(post(), || web::to(connections::connect))]);
    let scope = endpoint(
        scope,
        &["/services/service-sg/{service_id}/{group_id}"],
        &[(delete(), || web::to(connections::disconnect))],
    );
    let scope = endpoint(
        scope,
        &["/services/{service_id}"],
        &[(get(), || web::to(services::get_service)), (delete(), || web::to(services::delete_service))],
    );
    let scope = endpoint(scope, &["/functions"], &[(get(), || web::to(services::list_services))]);
    let scope = endpoint(
        scope,
        &["/services/{service_id}/groups", "/function/{service_id}/groups"],
        &[(get(), || web::to(connections::list_groups_of_service))],
    );

    let scope = endpoint(
        scope,
        &["/service-groups", "/function-groups"],
        &[(get(), || web::to(groups::list_groups)), (post(), || web::to(groups::create_group))],
    );
    let scope = endpoint(
        scope,
        &["/service-groups/public", "/function-groups/public"],
        &[(get(), || web::to(groups::list_public_groups))],
    );
    let scope = endpoint(
        scope,
        &["/service-groups/{group_id}", "/function-groups/{group_id}"],
        &[
            (get(), || web::to(groups::get_group)),
            (put(), || web::to(groups::put_group)),
            (delete(), || web::to(groups::delete_group)),
        ],
    );
    let scope = endpoint(
        scope,
        &["/service-groups/{group_id}/services"],
        &[(get(), || web::to(groups::list_services_of_group))],
    );
    endpoint(scope, &["/function-groups/{group_id}/functions"], &[(get(), || web::to(groups::list_functions_of_group))])
}

/// How a method of a path is answered: routes cannot be copied, so each is made where it is needed.
type MakeRoute = fn() -> Route;

/// The paths of this API, declared before any server exists.
struct Door(Vec<Endpoint>);

/// A path under all its names, with its methods.
struct Endpoint {
    paths: Vec<String>,
    methods: Vec<(Method, MakeRoute)>,
}

/// Adds a path under all its names, each with and without a final slash (a redirect would lose a body): also with
/// `HEAD` where there is `GET`, and with 405 for every other method.
fn endpoint(mut door: Door, paths: &[&str], methods: &[(Method, MakeRoute)]) -> Door {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    door.0.push(Endpoint { paths, methods: methods.to_vec() });
    door
}

impl Door {
    /// For one worker of the server.
    fn into_scope(self, state: &web::Data<State>) -> impl HttpServiceFactory + 'static {
        let nowhere = web::to(async || HttpResponse::from_error(Refusal::not_found()));
        let mut scope = web::scope(PREFIX).app_data(state.clone()).default_service(nowhere);
        for endpoint in &self.0 {
            scope = scope.service(endpoint.resource());
        }
        scope.wrap(from_fn(request::recognise))
    }
}

impl Endpoint {
    fn resource(&self) -> actix_web::Resource {
        let paths: Vec<String> = self.paths.iter().flat_map(|path| [path.clone(), format!("{path}/")]).collect();
        let mut allowed: Vec<Method> = self.methods.iter().map(|(method, _)| method.clone()).collect();
        let mut resource = web::resource(paths);
        for (method, route) in &self.methods {
            resource = resource.route(route().method(method.clone()));
            if *method == Method::GET {
                resource = resource.route(route().method(Method::HEAD));
                allowed.push(Method::HEAD);
            }
        }
        let refuse = move || {
            let refusal = Refusal::method_not_allowed(&allowed);
            async move { HttpResponse::from_error(refusal) }
        };
        resource.default_service(web::to(refuse))
    }
}
