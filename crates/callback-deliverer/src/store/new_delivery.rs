//! Deliveries as they are made: their rows, their bodies, and how both are stored, once for each webhook id.

use std::collections::HashMap;

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use crate::payload;
use crate::schema::{deliveries, delivery_bodies};
use crate::words::{DiscardReason, Status};

#[derive(Debug, Insertable)]
#[diesel(table_name = deliveries, treat_none_as_default_value = false)]
pub(super) struct NewDelivery<'a> {
    pub(super) webhook_id: Uid,
    pub(super) organisation: &'a str,
    pub(super) agent_id: i64,
    pub(super) log_id: Option<i64>,
    pub(super) event: &'static str,
    pub(super) status: Status,
    pub(super) reason: Option<DiscardReason>,
    pub(super) to_alert_url: bool,
    pub(super) awaits_version: Option<i64>,
    pub(super) delivery_attempts_made: i32,
    pub(super) round_began_at: Timestamp,
    pub(super) round_failures: i32,
    pub(super) body_bytes: i64,
    pub(super) due_at: Option<Timestamp>,
    pub(super) lease_owner: Option<Uid>,
    pub(super) created_at: Timestamp,
    pub(super) settled_at: Option<Timestamp>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = delivery_bodies)]
pub(super) struct NewBody {
    pub(super) delivery_id: i64,
    pub(super) body: String,
}

impl<'a> NewDelivery<'a> {
    /// A delivery that is due now.
    pub(super) fn due(
        webhook_id: Uuid,
        organisation: &'a str,
        agent_id: i64,
        event: &'static str,
        body_bytes: usize,
        now: Timestamp,
    ) -> Self {
        Self {
            webhook_id: Uid::from(webhook_id),
            organisation,
            agent_id,
            log_id: None,
            event,
            status: Status::Pending,
            reason: None,
            to_alert_url: false,
            awaits_version: None,
            delivery_attempts_made: 0,
            round_began_at: now,
            round_failures: 0,
            body_bytes: i64::try_from(body_bytes).unwrap_or(i64::MAX),
            due_at: Some(now),
            lease_owner: None,
            created_at: now,
            settled_at: None,
        }
    }
}

/// Inserts what is not there yet; the ids of what was inserted, by webhook id.
pub(super) fn insert(connection: &mut DbConnection, rows: &[NewDelivery<'_>]) -> QueryResult<HashMap<Uuid, i64>> {
    let inserted: Vec<(Uid, i64)> = per_backend!(connection, c => diesel::insert_into(deliveries::table)
        .values(rows)
        .on_conflict(deliveries::webhook_id)
        .do_nothing()
        .returning((deliveries::webhook_id, deliveries::id))
        .get_results(c))?;
    Ok(inserted.into_iter().map(|(webhook_id, id)| (*webhook_id, id)).collect())
}

/// Inserts the bodies of new deliveries.
pub(super) fn insert_bodies(connection: &mut DbConnection, bodies: &[NewBody]) -> QueryResult<()> {
    per_backend!(connection, c => diesel::insert_into(delivery_bodies::table).values(bodies).execute(c)).map(|_| ())
}

/// Stores a delivery that is due now, unless there is one of that id; its id if it is new.
pub(super) fn insert_one(
    connection: &mut DbConnection,
    row: NewDelivery<'_>,
    body: String,
) -> QueryResult<Option<i64>> {
    let Some(id) = insert(connection, &[row])?.into_values().next() else { return Ok(None) };
    insert_bodies(connection, &[NewBody { delivery_id: id, body }])?;
    Ok(Some(id))
}

/// Makes a ping to an agent's endpoint, due now; its id.
pub(crate) fn make_ping(
    connection: &mut DbConnection,
    webhook_id: Uuid,
    organisation: &str,
    agent_id: i64,
    body: String,
    now: Timestamp,
) -> QueryResult<i64> {
    let row = NewDelivery::due(webhook_id, organisation, agent_id, payload::PING, body.len(), now);
    insert_one(connection, row, body)?.ok_or(diesel::result::Error::NotFound)
}
