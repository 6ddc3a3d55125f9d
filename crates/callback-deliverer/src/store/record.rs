//! Recording what came of delivery attempts, many in one transaction.
//!
//! Every change is a compare-and-set: it happens only where the delivery is still pending, still leased to this
//! process and for this delivery attempt. What comes too late changes nothing, and final states absorb.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::SecondsFormat;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};
use service_kit::per_backend;

use crate::schema::{deliveries, delivery_attempts};
use crate::words::{OutcomeClass, Status};

/// A delivery attempt that came to its end.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = delivery_attempts, treat_none_as_default_value = false)]
pub(crate) struct DeliveryAttempt {
    pub(crate) delivery_id: i64,
    pub(crate) number: i32,
    pub(crate) started_at: Timestamp,
    pub(crate) duration_ms: i64,
    pub(crate) outcome: OutcomeClass,
    pub(crate) http_status: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) response_excerpt: Option<String>,
}

/// What a delivery comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its receiver has it.
    Delivered,
    /// It is tried again then.
    RetryAt(Timestamp),
    /// It failed for the last time.
    Exhausted,
    /// It could not even be tried, which is nobody's fault: it is looked at again then, and nothing is counted.
    Postponed(Timestamp),
}

/// As people read it in the log.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &Timestamp| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::RetryAt(at) => write!(f, "is tried again at {}", time(at)),
            Self::Exhausted => f.write_str("exhausted, is not tried again"),
            Self::Postponed(at) => write!(f, "could not be tried, is looked at again at {}", time(at)),
        }
    }
}

/// What to record of one lease.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) delivery_attempt: DeliveryAttempt,
    pub(crate) verdict: Verdict,
}

/// Records what came of leases of `owner`; the ids of the deliveries where that still mattered.
pub(crate) fn record(
    connection: &mut DbConnection,
    owner: Uid,
    now: Timestamp,
    entries: &[Entry],
) -> QueryResult<HashSet<i64>> {
    let mut recorded = HashSet::with_capacity(entries.len());
    let mut delivered: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for Entry { delivery_attempt, verdict } in entries {
        let (id, number) = (delivery_attempt.delivery_id, delivery_attempt.number);
        let changed = match *verdict {
            Verdict::Delivered => {
                delivered.entry(number).or_default().push(id);
                continue;
            }
            Verdict::RetryAt(due_at) => retry_at(connection, owner, id, number, due_at)?,
            Verdict::Exhausted => exhaust(connection, owner, id, number, now)?,
            Verdict::Postponed(due_at) => postpone(connection, owner, id, number, due_at)?,
        };
        recorded.extend((changed > 0).then_some(id));
    }
    for (number, ids) in delivered {
        recorded.extend(deliver(connection, owner, &ids, number, now)?);
    }
    let made: Vec<&DeliveryAttempt> = entries
        .iter()
        .filter(|entry| recorded.contains(&entry.delivery_attempt.delivery_id))
        .filter(|entry| !matches!(entry.verdict, Verdict::Postponed(_)))
        .map(|entry| &entry.delivery_attempt)
        .collect();
    per_backend!(connection, c => diesel::insert_into(delivery_attempts::table).values(made).execute(c))?;
    Ok(recorded)
}

/// What was delivered by the delivery attempt of the same number, in one statement: nearly all are the first.
fn deliver(
    connection: &mut DbConnection,
    owner: Uid,
    ids: &[i64],
    number: i32,
    now: Timestamp,
) -> QueryResult<Vec<i64>> {
    per_backend!(connection, c => diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(ids))
        .filter(deliveries::lease_owner.eq(Some(owner)))
        .filter(deliveries::delivery_attempts_made.eq(number - 1))
        .filter(deliveries::status.eq(Status::Pending))
        .set((
            deliveries::status.eq(Status::Delivered),
            deliveries::delivery_attempts_made.eq(number),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::lease_owner.eq(None::<Uid>),
            deliveries::settled_at.eq(Some(now)),
        ))
        .returning(deliveries::id)
        .get_results(c))
}

/// The delivery `id`, if `owner` still has the lease for this delivery attempt.
macro_rules! leased {
    ($owner:expr, $id:expr, $number:expr) => {
        diesel::update(deliveries::table)
            .filter(deliveries::id.eq($id))
            .filter(deliveries::lease_owner.eq(Some($owner)))
            .filter(deliveries::delivery_attempts_made.eq($number - 1))
            .filter(deliveries::status.eq(Status::Pending))
    };
}

fn retry_at(connection: &mut DbConnection, owner: Uid, id: i64, number: i32, due_at: Timestamp) -> QueryResult<usize> {
    leased!(owner, id, number)
        .set((
            deliveries::delivery_attempts_made.eq(number),
            deliveries::due_at.eq(Some(due_at)),
            deliveries::lease_owner.eq(None::<Uid>),
        ))
        .execute(connection)
}

fn exhaust(connection: &mut DbConnection, owner: Uid, id: i64, number: i32, now: Timestamp) -> QueryResult<usize> {
    leased!(owner, id, number)
        .set((
            deliveries::status.eq(Status::Exhausted),
            deliveries::delivery_attempts_made.eq(number),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::lease_owner.eq(None::<Uid>),
            deliveries::settled_at.eq(Some(now)),
        ))
        .execute(connection)
}

fn postpone(connection: &mut DbConnection, owner: Uid, id: i64, number: i32, due_at: Timestamp) -> QueryResult<usize> {
    leased!(owner, id, number)
        .set((deliveries::due_at.eq(Some(due_at)), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)
}
