//! `/api/core/orgs/{org}/audit-log/`: who changed what.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;

use super::list::read_list;
use super::page::PageRequest;
use super::request;
use crate::state::State;
use crate::store::audit_log::{self, AuditFilter, AuditRow};
use crate::validation::query::Query;
use crate::validation::time;

/// A change as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(super) struct ChangeView {
    id: i64,
    at: String,
    /// Who asked; empty: Carillon itself.
    username: String,
    /// As whom.
    acting_as: String,
    /// What they showed: `token` or `api_key`; `carillon` of what Carillon did itself.
    credential: String,
    action: String,
    /// As `agent:7`.
    subject: String,
    /// The names of the fields that changed.
    fields: Value,
}

impl From<AuditRow> for ChangeView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: time::render(*row.at),
            username: row.username,
            acting_as: row.acting_as,
            credential: row.credential,
            action: row.action,
            subject: format!("{}:{}", row.subject, row.subject_key),
            fields: (*row.fields).clone(),
        }
    }
}

/// `GET /api/core/orgs/{org}/audit-log/?from=&to=&action=&subject=&username=`: newest first.
pub(super) async fn list_changes(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &request::organisation(&request)?)?;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let filter = read_filter(&query, acting.organisation)?;
    let found = read_list(&state, move |conn| {
        let page = page.of(audit_log::count(conn, &filter)?)?;
        Ok((page, audit_log::page(conn, &filter, page.window())?))
    });
    let (page, rows) = found.await?;
    Ok(page.answer(&state, &request, &query, rows.into_iter().map(ChangeView::from).collect()))
}

fn read_filter(query: &Query, organisation: String) -> Result<AuditFilter, ApiError> {
    let mut errors = FieldErrors::new();
    let mut moment = |name: &str| -> Option<DateTime<Utc>> {
        let read = time::parse(query.text(name)?);
        if read.is_none() {
            errors.add(name, "Enter a valid date/time.");
        }
        read
    };
    let (from, to) = (moment("from"), moment("to"));
    errors.into_result()?;
    let text = |name: &str| query.text(name).map(str::to_owned);
    // `agent` is every agent, `agent:7` is one.
    let (subject, subject_key) = match query.text("subject").map(|subject| subject.split_once(':').ok_or(subject)) {
        None => (None, None),
        Some(Ok((subject, key))) => (Some(subject.to_owned()), Some(key.to_owned())),
        Some(Err(subject)) => (Some(subject.to_owned()), None),
    };
    Ok(AuditFilter { organisation, from, to, action: text("action"), subject, subject_key, username: text("username") })
}
