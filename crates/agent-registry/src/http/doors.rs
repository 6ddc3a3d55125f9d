//! A door: the paths under one prefix, with their methods, declared before any server exists.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{Method, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde_json::json;
use service_kit::error::ApiError;

use super::{body, request};

/// How a method of a path is answered: routes cannot be copied, so each is made where it is needed.
pub(super) type MakeRoute = fn() -> Route;

/// What is under one prefix.
pub(super) struct Door {
    prefix: &'static str,
    endpoints: Vec<Endpoint>,
}

/// A path with its methods.
struct Endpoint {
    path: String,
    methods: Vec<(Method, MakeRoute)>,
    /// Whether the path without its final slash is answered, too, and not redirected.
    without_slash: bool,
}

/// Adds a path with its methods: also with `HEAD` where there is `GET`, with 405 for every other method, and with the
/// redirect from the path without its final slash.
pub(super) fn endpoint(mut door: Door, path: &str, methods: &[(Method, MakeRoute)]) -> Door {
    door.endpoints.push(Endpoint { path: path.to_owned(), methods: methods.to_vec(), without_slash: false });
    door
}

impl Door {
    /// Nothing yet, under this prefix.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, endpoints: Vec::new() }
    }

    /// The last path is known without its final slash, too.
    pub(super) fn also_without_slash(mut self) -> Self {
        if let Some(last) = self.endpoints.last_mut() {
            last.without_slash = true;
        }
        self
    }

    /// Every operation there is.
    pub(super) fn operations(&self) -> impl Iterator<Item = (Method, String)> {
        let of = |endpoint: &Endpoint| {
            let path = format!("{}{}/", self.prefix, endpoint.path);
            endpoint.methods.iter().map(|(method, _)| (method.clone(), path.clone())).collect::<Vec<_>>()
        };
        self.endpoints.iter().flat_map(of)
    }

    /// For one worker of the server.
    pub(super) fn into_scope(self) -> impl HttpServiceFactory + 'static {
        let mut scope =
            web::scope(self.prefix).default_service(web::to(async || HttpResponse::from_error(ApiError::not_found())));
        for endpoint in &self.endpoints {
            let resource = web::resource(endpoint.paths());
            scope = scope.service(endpoint.answer_on(resource));
            if !endpoint.without_slash {
                scope = scope.service(web::resource(endpoint.path.as_str()).to(add_slash));
            }
        }
        scope.wrap(from_fn(request::recognise))
    }
}

impl Endpoint {
    fn paths(&self) -> Vec<String> {
        let whole = format!("{}/", self.path);
        if self.without_slash { vec![whole, self.path.clone()] } else { vec![whole] }
    }

    fn answer_on(&self, mut resource: actix_web::Resource) -> actix_web::Resource {
        let mut allowed: Vec<Method> = self.methods.iter().map(|(method, _)| method.clone()).collect();
        for (method, route) in &self.methods {
            resource = resource.route(route().method(method.clone()));
            if *method == Method::GET {
                resource = resource.route(route().method(Method::HEAD));
                allowed.push(Method::HEAD);
            }
        }
        allowed.push(Method::OPTIONS);
        let other = move |request: HttpRequest| {
            let answer = refuse(&request, &allowed);
            async move { answer }
        };
        resource.default_service(web::to(other))
    }
}

/// Any other method: callers who are known, and may be where the path leads, learn which there are.
fn refuse(request: &HttpRequest, allowed: &[Method]) -> Result<HttpResponse, ApiError> {
    request::admit_to_ask(request)?;
    if *request.method() == Method::OPTIONS {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let about = json!({ "renders": ["application/json"], "parses": body::MEDIA_TYPES });
        return Ok(HttpResponse::Ok().insert_header((header::ALLOW, allowed)).json(about));
    }
    Err(ApiError::method_not_allowed(request.method(), allowed))
}

/// Every path ends in a slash; one without leads to the one with.
async fn add_slash(request: HttpRequest) -> HttpResponse {
    let (path, query) = (request.uri().path(), request.uri().query());
    let location = query.map_or_else(|| format!("{path}/"), |query| format!("{path}/?{query}"));
    HttpResponse::MovedPermanently().insert_header((header::LOCATION, location)).finish()
}
