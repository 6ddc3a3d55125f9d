//! Pages of lists: which one is asked for, and the links to its neighbours.

use std::num::IntErrorKind;

use actix_web::http::uri::Authority;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use service_kit::error::ApiError;

use crate::state::State;
use crate::store::Window;
use crate::validation::query::Query;

/// Entries on a page, unless the client says otherwise.
const PAGE_SIZE: i64 = 25;
/// What a larger `page_size` becomes.
const PAGE_SIZE_MAX: i64 = 100;

/// The page that a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageRequest {
    number: Number,
    pub(super) size: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Nth(i64),
    Last,
}

impl PageRequest {
    /// Reads `page` and `page_size`.
    pub(super) fn read(query: &Query) -> Result<Self, ApiError> {
        let number = match query.text("page") {
            None => Number::Nth(1),
            Some("last") => Number::Last,
            Some(text) => match text.trim().parse() {
                Ok(number) if number >= 1 => Number::Nth(number),
                _ => return Err(invalid_page()),
            },
        };
        let size = query.text("page_size").and_then(page_size).filter(|size| *size > 0);
        Ok(Self { number, size: size.unwrap_or(PAGE_SIZE).min(PAGE_SIZE_MAX) })
    }

    /// The page's number, where it does not depend on how many there are.
    pub(super) fn nth(self) -> Option<i64> {
        match self.number {
            Number::Nth(number) => Some(number),
            Number::Last => None,
        }
    }

    /// The page of a list of `count` entries; an empty list still has its first.
    pub(super) fn of(self, count: i64) -> Result<Page, ApiError> {
        let pages = count.max(1).saturating_add(self.size - 1) / self.size;
        let number = self.nth().unwrap_or(pages);
        if number > pages {
            return Err(invalid_page());
        }
        Ok(Page { count, number, pages, size: self.size })
    }
}

/// A number of any length, as far as it counts.
fn page_size(text: &str) -> Option<i64> {
    match text.trim().parse::<i64>() {
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(PAGE_SIZE_MAX),
        read => read.ok(),
    }
}

fn invalid_page() -> ApiError {
    ApiError::detail(StatusCode::NOT_FOUND, "Invalid page.")
}

/// One page of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) count: i64,
    pub(super) number: i64,
    pages: i64,
    size: i64,
}

#[derive(Serialize)]
struct PageBody<T> {
    count: i64,
    next: Option<String>,
    previous: Option<String>,
    // The last: around() cuts here.
    results: Vec<T>,
}

impl Page {
    /// Which rows are on it.
    pub(super) fn window(self) -> Window {
        Window { limit: self.size, offset: (self.number - 1).saturating_mul(self.size) }
    }

    /// The answer: its entries, and links that keep the rest of the query.
    pub(super) fn answer<T: Serialize>(
        self,
        state: &State,
        request: &HttpRequest,
        query: &Query,
        results: Vec<T>,
    ) -> HttpResponse {
        HttpResponse::Ok().json(self.body(state, request, query, results))
    }

    /// As JSON, what stands before and behind the entries.
    pub(super) fn around(
        self,
        state: &State,
        request: &HttpRequest,
        query: &Query,
    ) -> serde_json::Result<(String, &'static str)> {
        const END: &str = "]}";
        let mut whole = serde_json::to_string(&self.body(state, request, query, Vec::<()>::new()))?;
        whole.truncate(whole.len() - END.len());
        Ok((whole, END))
    }

    fn body<T>(self, state: &State, request: &HttpRequest, query: &Query, results: Vec<T>) -> PageBody<T> {
        let list = format!("{}{}", base(state, request), request.uri().path());
        let next = (self.number < self.pages).then(|| link(&list, query, self.number + 1));
        let previous = (self.number > 1).then(|| link(&list, query, self.number - 1));
        PageBody { count: self.count, next, previous, results }
    }
}

/// Where clients reach the API: as configured, else the host that this one named. Headers for proxies
/// (`X-Forwarded-Host`, `Forwarded`) could be anybody's: nobody has said that there is a proxy.
fn base(state: &State, request: &HttpRequest) -> String {
    if let Some(url) = &state.config.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = named.or(request.uri().authority().map(Authority::as_str));
    let config = request.app_config();
    let scheme = if config.secure() { "https" } else { "http" };
    format!("{scheme}://{}", host.unwrap_or(config.host()))
}

/// The address of another page of a list; that of the first has no `page`.
fn link(list: &str, query: &Query, page: i64) -> String {
    match query.with_page((page > 1).then_some(page)) {
        query if query.is_empty() => list.to_owned(),
        query => format!("{list}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Option<PageRequest> {
        PageRequest::read(&Query::parse(query)).ok()
    }

    #[test]
    fn a_bad_page_is_not_there_and_a_bad_size_is_the_default() {
        assert!(["page=0", "page=-1", "page=x", "page=1.5"].into_iter().all(|query| read(query).is_none()));
        assert_eq!(read("page=").map(|page| page.nth()), Some(Some(1)));
        for (query, size) in [
            ("", 25),
            ("page_size=5", 5),
            ("page_size=0", 25),
            ("page_size=x", 25),
            ("page_size=1000", 100),
            ("page_size=99999999999999999999", 100),
            ("page_size=-99999999999999999999", 25),
        ] {
            assert_eq!(read(query).map(|page| page.size), Some(size), "{query}");
        }
    }

    #[test]
    fn the_last_page_is_counted_and_one_beyond_it_is_not_there() {
        let of = |query: &str, count: i64| read(query).and_then(|page| page.of(count).ok()).map(|page| page.number);
        assert_eq!(of("page=last&page_size=10", 21), Some(3));
        assert_eq!(of("page=last&page_size=10", 20), Some(2));
        assert_eq!(of("page=last", 0), Some(1));
        assert_eq!(of("page=3&page_size=10", 20), None);
        assert_eq!(of("page=9223372036854775807", 20), None);
    }
}
