//! Reading deliveries for those who look at them.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};
use uuid::Uuid;

use super::record::DeliveryAttempt;
use crate::schema::{deliveries, delivery_attempts};
use crate::words::{DiscardReason, Status};

/// Which deliveries are wanted; nothing: all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) organisation: Option<String>,
    pub(crate) agent_id: Option<i64>,
    pub(crate) webhook_id: Option<Uuid>,
    pub(crate) status: Option<Status>,
    pub(crate) created_after: Option<Timestamp>,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryRow {
    pub(crate) id: i64,
    pub(crate) webhook_id: Uid,
    pub(crate) organisation: String,
    pub(crate) agent_id: i64,
    pub(crate) log_id: Option<i64>,
    pub(crate) event: String,
    pub(crate) status: Status,
    pub(crate) reason: Option<DiscardReason>,
    pub(crate) delivery_attempts_made: i32,
    pub(crate) to_alert_url: bool,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) lease_owner: Option<Uid>,
    pub(crate) created_at: Timestamp,
    pub(crate) settled_at: Option<Timestamp>,
}

/// One page, newest first, and how many there are in all.
pub(crate) fn list(
    connection: &mut DbConnection,
    filter: &Filter,
    limit: i64,
    offset: i64,
) -> QueryResult<(i64, Vec<DeliveryRow>)> {
    let count = chosen(filter).count().get_result(connection)?;
    let rows = chosen(filter)
        .select(DeliveryRow::as_select())
        .order(deliveries::id.desc())
        .limit(limit)
        .offset(offset)
        .load(connection)?;
    Ok((count, rows))
}

/// One delivery with its delivery attempts in order.
pub(crate) fn find(connection: &mut DbConnection, id: i64) -> QueryResult<Option<(DeliveryRow, Vec<DeliveryAttempt>)>> {
    let row = deliveries::table.find(id).select(DeliveryRow::as_select()).first(connection).optional()?;
    let Some(row) = row else { return Ok(None) };
    let made = delivery_attempts::table
        .filter(delivery_attempts::delivery_id.eq(id))
        .order(delivery_attempts::number)
        .select(DeliveryAttempt::as_select())
        .load(connection)?;
    Ok(Some((row, made)))
}

fn chosen(filter: &Filter) -> deliveries::BoxedQuery<'static, service_kit::database::MultiBackend> {
    let mut query = deliveries::table.into_boxed();
    if let Some(organisation) = &filter.organisation {
        query = query.filter(deliveries::organisation.eq(organisation.clone()));
    }
    if let Some(created_after) = filter.created_after {
        query = query.filter(deliveries::created_at.gt(created_after));
    }
    if let Some(agent_id) = filter.agent_id {
        query = query.filter(deliveries::agent_id.eq(agent_id));
    }
    if let Some(webhook_id) = filter.webhook_id {
        query = query.filter(deliveries::webhook_id.eq(Uid::from(webhook_id)));
    }
    if let Some(status) = filter.status {
        query = query.filter(deliveries::status.eq(status));
    }
    query
}

/// How many deliveries of an agent have each status, of those that did not arrive.
pub(crate) fn count_undelivered(connection: &mut DbConnection, agent_id: i64) -> QueryResult<Vec<(Status, i64)>> {
    deliveries::table
        .filter(deliveries::agent_id.eq(agent_id))
        .filter(super::endpoints::undelivered())
        .filter(deliveries::to_alert_url.eq(false))
        .group_by(deliveries::status)
        .select((deliveries::status, diesel::dsl::count_star()))
        .load(connection)
}
