//! The backlog: how much waits, for how long, and which endpoints are not well.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use super::claim::next_due;
use crate::schema::{deliveries, endpoint_states};
use crate::words::Status;

/// How much waits, for how long, and which endpoints are not well.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Deliveries that are due.
    pub(crate) due: i64,
    /// When the next delivery is due, or should have been tried.
    pub(crate) oldest_due: Option<Timestamp>,
    /// Deliveries that wait for their endpoint.
    pub(crate) held: i64,
    /// Endpoints that fail and are not disabled yet.
    pub(crate) failing: i64,
    /// Endpoints that are disabled.
    pub(crate) disabled: i64,
}

/// Counts along the indexes of what is due and held.
pub(crate) fn measure(connection: &mut DbConnection, now: Timestamp) -> QueryResult<Backlog> {
    let unwell: i64 = endpoint_states::table.count().get_result(connection)?;
    let disabled: i64 =
        endpoint_states::table.filter(endpoint_states::disabled_at.is_not_null()).count().get_result(connection)?;
    Ok(Backlog {
        due: deliveries::table.filter(deliveries::due_at.le(Some(now))).count().get_result(connection)?,
        oldest_due: next_due(connection)?,
        held: deliveries::table.filter(deliveries::status.eq(Status::Held)).count().get_result(connection)?,
        failing: unwell - disabled,
        disabled,
    })
}
