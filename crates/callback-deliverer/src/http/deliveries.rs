//! Deliveries: list, show, replay one.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::{ApiError, FieldErrors};
use uuid::Uuid;

use super::Within;
use super::moment::Moment;
use crate::core::Core;
use crate::store::drain::make_due;
use crate::store::listing::{self, DeliveryRow, Filter};
use crate::store::record::DeliveryAttempt;
use crate::webhook_id;
use crate::words::{DiscardReason, OutcomeClass, Status};

const PAGE_SIZE: i64 = 25;
const PAGE_SIZE_MAX: i64 = 100;

/// Everything is optional, and read as text so that what is wrong is named.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    organisation: Option<String>,
    created_after: Option<String>,
    periodic_agent: Option<String>,
    log: Option<String>,
    status: Option<String>,
    page: Option<String>,
    page_size: Option<String>,
}

/// One page of deliveries.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryPage {
    count: i64,
    results: Vec<DeliveryView>,
}

/// A delivery as it is shown: never its URL, secret or body.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryView {
    id: i64,
    webhook_id: Uuid,
    organisation: String,
    periodic_agent: i64,
    log: Option<i64>,
    event: String,
    status: Status,
    reason: Option<DiscardReason>,
    delivery_attempts_made: i32,
    /// Whether it went to the organisation's alert URL.
    to_alert_url: bool,
    /// Of a pending delivery; null while it waits for its endpoint.
    next_delivery_attempt_at: Option<Moment>,
    created_at: Moment,
    settled_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_attempts: Option<Vec<DeliveryAttemptView>>,
}

/// A delivery attempt as it is shown.
#[derive(Debug, Serialize)]
struct DeliveryAttemptView {
    number: i32,
    started_at: Moment,
    duration_ms: i64,
    outcome: OutcomeClass,
    http_status: Option<i32>,
    error: Option<String>,
    response_excerpt: Option<String>,
}

/// `GET /internal/deliveries?organisation=&periodic_agent=&log=&status=&created_after=&page=&page_size=`: newest first.
pub(super) async fn list_deliveries(
    core: web::Data<Core>,
    query: web::Query<ListQuery>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let (filter, page, page_size) = read_query(&query, core.installation)?;
    let offset = (page - 1).saturating_mul(page_size);
    let (count, rows) = core
        .db
        .read(move |connection| Ok::<_, DatabaseError>(listing::list(connection, &filter, page_size, offset)?))
        .await?;
    if rows.is_empty() && page > 1 {
        return Err(ApiError::detail(StatusCode::NOT_FOUND, "Invalid page."));
    }
    Ok(Json(DeliveryPage { count, results: rows.into_iter().map(|row| view(row, None)).collect() }))
}

/// `GET /internal/deliveries/{id}`: with its delivery attempts.
pub(super) async fn show_delivery(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<Json<DeliveryView>, ApiError> {
    let (row, made) = find(&core, super::id(&path)?, &within).await?;
    Ok(Json(view(row, Some(made))))
}

/// `POST /internal/deliveries/{id}/replay`: 202 with the delivery, which is due now. One that is on its way already is
/// left as it is; it keeps its id and its body.
pub(super) async fn replay_delivery(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<HttpResponse, ApiError> {
    let id = super::id(&path)?;
    find(&core, id, &within).await?;
    let now = Timestamp::from(core.clock.now());
    let any = [Status::Pending, Status::Delivered, Status::Exhausted, Status::Discarded, Status::Held];
    core.db.write(move |connection| Ok::<_, DatabaseError>(make_due(connection, &[id], &any, now)?)).await?;
    core.due.notify_one();
    let (row, made) = find(&core, id, &within).await?;
    Ok(HttpResponse::Accepted().json(view(row, Some(made))))
}

async fn find(core: &Core, id: i64, within: &Within) -> Result<(DeliveryRow, Vec<DeliveryAttempt>), ApiError> {
    let found = core.db.read(move |connection| Ok::<_, DatabaseError>(listing::find(connection, id)?)).await?;
    found.filter(|(row, _)| within.has(&row.organisation)).ok_or_else(|| ApiError::no_such("Delivery"))
}

fn read_query(query: &ListQuery, installation: Uuid) -> Result<(Filter, i64, i64), ApiError> {
    let mut errors = FieldErrors::default();
    let mut number = |field: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        text.parse::<i64>().map_err(|_| errors.add(field, "A valid integer is required.")).ok()
    };
    let agent_id = number("periodic_agent", &query.periodic_agent);
    let log_id = number("log", &query.log);
    let page = number("page", &query.page).unwrap_or(1);
    let page_size = number("page_size", &query.page_size).unwrap_or(PAGE_SIZE);
    let created_after = query.created_after.as_deref().filter(|text| !text.is_empty()).and_then(|text| {
        let read = text.parse::<DateTime<Utc>>();
        read.map_err(|_| errors.add("created_after", "Enter a valid date/time, as 2026-03-01T12:00:00Z.")).ok()
    });
    let word = query.status.as_deref().filter(|word| !word.is_empty());
    let status = word.and_then(Status::from_word);
    if let (Some(word), None) = (word, status) {
        let problem = format!("Select a valid choice. {word} is not one of the available choices.");
        errors.add("status", &problem);
    }
    errors.into_result()?;
    if page < 1 {
        return Err(ApiError::detail(StatusCode::NOT_FOUND, "Invalid page."));
    }
    let page_size = if page_size < 1 { PAGE_SIZE } else { page_size.min(PAGE_SIZE_MAX) };
    let webhook_id = log_id.map(|id| webhook_id::of_run(installation, model::id::RunId(id)));
    let filter = Filter {
        organisation: query.organisation.clone(),
        agent_id,
        webhook_id,
        status,
        created_after: created_after.map(Timestamp::from),
    };
    Ok((filter, page, page_size))
}

pub(super) fn view(row: DeliveryRow, made: Option<Vec<DeliveryAttempt>>) -> DeliveryView {
    // While a delivery attempt is being made, `due_at` is the end of its lease.
    let next_delivery_attempt_at = if row.lease_owner.is_none() { row.due_at } else { None };
    DeliveryView {
        id: row.id,
        webhook_id: *row.webhook_id,
        organisation: row.organisation,
        periodic_agent: row.agent_id,
        log: row.log_id,
        event: row.event,
        status: row.status,
        reason: row.reason,
        delivery_attempts_made: row.delivery_attempts_made,
        to_alert_url: row.to_alert_url,
        next_delivery_attempt_at: next_delivery_attempt_at.map(Moment::from),
        created_at: row.created_at.into(),
        settled_at: row.settled_at.map(Moment::from),
        delivery_attempts: made.map(|made| made.into_iter().map(attempt_view).collect()),
    }
}

fn attempt_view(made: DeliveryAttempt) -> DeliveryAttemptView {
    DeliveryAttemptView {
        number: made.number,
        started_at: made.started_at.into(),
        duration_ms: made.duration_ms,
        outcome: made.outcome,
        http_status: made.http_status,
        error: made.error,
        response_excerpt: made.response_excerpt,
    }
}
