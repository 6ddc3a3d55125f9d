//! Taking in ended runs: one delivery each, once.

use std::collections::{HashMap, HashSet};

use diesel::dsl::count_star;
use diesel::prelude::*;
use model::run::RunRecord;
use service_kit::database::{DatabaseError, DbConnection, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::endpoints::{self, Endpoint, Fate, Hold, URL_WAIT};
use super::{Leased, Lessee, Target};
use crate::payload::{self, NotEnded};
use crate::schema::{deliveries, delivery_bodies};
use crate::words::{DiscardReason, Status};

/// Rows of one statement: SQLite binds at most 32,766 values.
const ROWS_MAX: usize = 1_000;

#[derive(Debug, Insertable)]
#[diesel(table_name = deliveries, treat_none_as_default_value = false)]
struct NewDelivery<'a> {
    webhook_id: Uid,
    organisation: &'a str,
    agent_id: i64,
    log_id: Option<i64>,
    event: &'static str,
    status: Status,
    reason: Option<DiscardReason>,
    delivery_attempts_made: i32,
    due_at: Option<Timestamp>,
    lease_owner: Option<Uid>,
    created_at: Timestamp,
    settled_at: Option<Timestamp>,
}

#[derive(Debug, Insertable)]
#[diesel(table_name = delivery_bodies)]
struct NewBody {
    delivery_id: i64,
    body: String,
}

/// What came of taking runs in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Leased to this process: to be tried at once.
    pub(crate) leased: Vec<Leased>,
    /// Whether others are due.
    pub(crate) due: bool,
    /// How many deliveries are new.
    pub(crate) new: usize,
}

/// Why runs were not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// The database's doing.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The message's fault.
    #[error(transparent)]
    NotEnded(#[from] NotEnded),
}

impl From<diesel::result::Error> for IntakeError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Stores a delivery for each run that has none yet, of which the first `slots` that can be sent are leased.
///
/// Idempotent: the webhook id is unique, so a run that comes again changes nothing.
pub(crate) fn take_in(
    connection: &mut DbConnection,
    runs: &[RunRecord],
    installation: Uuid,
    lessee: &Lessee,
    slots: usize,
) -> Result<Taken, IntakeError> {
    let agents: Vec<i64> =
        runs.iter().map(|record| record.run.agent_id.0).collect::<HashSet<_>>().into_iter().collect();
    endpoints::lock(connection, Hold::Shared)?;
    let held = endpoints::of_agents(connection, &agents)?;
    let undelivered = count_undelivered(connection, &agents)?;
    let mut taken = Taken::default();
    for chunk in runs.chunks(ROWS_MAX) {
        let mut targets = HashMap::new();
        let rows: Vec<NewDelivery<'_>> = chunk
            .iter()
            .map(|record| {
                let fate =
                    Endpoint::fate(held.get(&record.run.agent_id.0), record.ended_at.unwrap_or(record.requested_at));
                let room = targets.len() + taken.leased.len() < slots;
                let (row, target) = row(record, installation, fate, lessee, room);
                targets.extend(target.map(|target| (*row.webhook_id, target)));
                row
            })
            .collect();
        let mut inserted = insert(connection, &rows)?;
        let mut bodies = Vec::with_capacity(inserted.len());
        for (row, record) in rows.iter().zip(chunk) {
            // Removed, so that a run that stands here twice is made into one delivery.
            let Some(id) = inserted.remove(&*row.webhook_id) else { continue };
            let body = payload::body(record, undelivered.get(&row.agent_id).copied().unwrap_or(0))?;
            match targets.remove(&*row.webhook_id) {
                Some(target) => taken.leased.push(leased(row, id, body.clone(), target)),
                None => taken.due |= row.due_at == Some(lessee.now),
            }
            bodies.push(NewBody { delivery_id: id, body });
        }
        taken.new += bodies.len();
        per_backend!(&mut *connection, c =>
            diesel::insert_into(delivery_bodies::table).values(&bodies).execute(c))?;
    }
    Ok(taken)
}

/// How many deliveries of each agent failed and are pending, or are exhausted.
fn count_undelivered(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<HashMap<i64, i64>> {
    let failed = deliveries::status.eq(Status::Exhausted).or(deliveries::delivery_attempts_made.gt(0));
    let counts: Vec<(i64, i64)> = deliveries::table
        .filter(deliveries::agent_id.eq_any(agents))
        .filter(endpoints::undelivered())
        .filter(failed)
        .group_by(deliveries::agent_id)
        .select((deliveries::agent_id, count_star()))
        .load(connection)?;
    Ok(counts.into_iter().collect())
}

/// The row of a new delivery, and where it goes if it is to be tried at once.
fn row<'a>(
    record: &'a RunRecord,
    installation: Uuid,
    fate: Fate,
    lessee: &Lessee,
    room: bool,
) -> (NewDelivery<'a>, Option<Target>) {
    let mut row = NewDelivery {
        webhook_id: Uid::from(payload::webhook_id(installation, record.run.id)),
        organisation: record.run.organisation.as_str(),
        agent_id: record.run.agent_id.0,
        log_id: Some(record.run.id.0),
        event: payload::RUN_FINISHED,
        status: Status::Pending,
        reason: None,
        delivery_attempts_made: 0,
        due_at: Some(lessee.now),
        lease_owner: None,
        created_at: lessee.now,
        settled_at: None,
    };
    match fate {
        Fate::Send(target) if room => {
            row.due_at = Some(lessee.until);
            row.lease_owner = Some(lessee.owner);
            return (row, Some(target));
        }
        Fate::Send(_) => {}
        Fate::AwaitDocument => row.due_at = None,
        Fate::AwaitUrl => row.due_at = Some(Timestamp::from(*lessee.now + URL_WAIT)),
        Fate::Discard(reason) => {
            row.status = Status::Discarded;
            row.reason = Some(reason);
            row.due_at = None;
            row.settled_at = Some(lessee.now);
        }
    }
    (row, None)
}

/// Inserts what is not there yet; the ids of what was inserted, by webhook id.
fn insert(connection: &mut DbConnection, rows: &[NewDelivery<'_>]) -> QueryResult<HashMap<Uuid, i64>> {
    let inserted: Vec<(Uid, i64)> = per_backend!(connection, c => diesel::insert_into(deliveries::table)
        .values(rows)
        .on_conflict(deliveries::webhook_id)
        .do_nothing()
        .returning((deliveries::webhook_id, deliveries::id))
        .get_results(c))?;
    Ok(inserted.into_iter().map(|(webhook_id, id)| (*webhook_id, id)).collect())
}

fn leased(row: &NewDelivery<'_>, id: i64, body: String, target: Target) -> Leased {
    Leased {
        id,
        webhook_id: *row.webhook_id,
        agent_id: row.agent_id,
        log_id: row.log_id,
        organisation: row.organisation.to_owned(),
        created_at: *row.created_at,
        number: 1,
        body,
        target,
    }
}
