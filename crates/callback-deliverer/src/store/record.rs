//! Recording what came of delivery attempts, many in one transaction, and what that says of their endpoints.
//!
//! Every change is a compare-and-set: it happens only where the delivery is still pending, still leased to this
//! replica and for this delivery attempt. What comes too late changes nothing, and final states absorb.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::SecondsFormat;
use diesel::dsl::{AsExprOf, case_when};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable};
use service_kit::database::{DbConnection, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::Target;
use super::endpoints::{self, Hold};
use super::new_delivery::{NewDelivery, insert_one};
use super::organisations;
use super::states::{self, DISABLED_PERCENT, EndpointState, Failures};
use crate::schema::{deliveries, delivery_attempts};
use crate::warning::{ENDPOINT_DISABLED, ENDPOINT_FAILING, Warning};
use crate::webhook_id;
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
    /// Its receiver wants no more: it is held until somebody enables the endpoint.
    Held,
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
            Self::Held => f.write_str("is held until its endpoint is enabled"),
            Self::Exhausted => f.write_str("exhausted, is not tried again"),
            Self::Postponed(at) => write!(f, "could not be tried, is looked at again at {}", time(at)),
        }
    }
}

/// What to record of one lease.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Whose lease it was.
    pub(crate) owner: Uid,
    pub(crate) delivery_attempt: DeliveryAttempt,
    pub(crate) verdict: Verdict,
    pub(crate) agent_id: i64,
    pub(crate) organisation: String,
    /// Where it went.
    pub(crate) target: Target,
    /// Whether it says something of the agent's endpoint.
    pub(crate) counts: bool,
}

/// What was recorded.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The deliveries where it still mattered.
    pub(crate) ids: HashSet<i64>,
    /// Endpoints of which something is to be told, and how far it has come with them.
    pub(crate) told: Vec<(EndpointState, i32)>,
    /// Whether something became due: a warning, what was given back, or what a receiver refused whose place another
    /// has taken.
    pub(crate) due: bool,
}

/// Records what came of leases.
pub(crate) fn record(
    connection: &mut DbConnection,
    now: Timestamp,
    installation: Uuid,
    entries: &[Entry],
) -> QueryResult<Recorded> {
    let moved = moved(connection, entries)?;
    let mut ids = HashSet::with_capacity(entries.len());
    let mut delivered: BTreeMap<(Uid, i32), Vec<i64>> = BTreeMap::new();
    let mut due = false;
    for Entry { owner, delivery_attempt, verdict, .. } in entries {
        let (owner, id, number) = (*owner, delivery_attempt.delivery_id, delivery_attempt.number);
        let changed = match *verdict {
            Verdict::Delivered => {
                delivered.entry((owner, number)).or_default().push(id);
                continue;
            }
            Verdict::Held if moved.contains(&id) => {
                due = true;
                fail(connection, owner, id, number, (Status::Pending, Some(now), None))?
            }
            Verdict::RetryAt(due_at) => fail(connection, owner, id, number, (Status::Pending, Some(due_at), None))?,
            Verdict::Held => fail(connection, owner, id, number, (Status::Held, None, None))?,
            Verdict::Exhausted => fail(connection, owner, id, number, (Status::Exhausted, None, Some(now)))?,
            Verdict::Postponed(due_at) => {
                due |= due_at <= now;
                postpone(connection, owner, id, number, due_at)?
            }
        };
        ids.extend((changed > 0).then_some(id));
    }
    for ((owner, number), alike) in delivered {
        ids.extend(deliver(connection, owner, &alike, number, now)?);
    }
    let entries: Vec<&Entry> = entries
        .iter()
        .filter(|entry| ids.contains(&entry.delivery_attempt.delivery_id))
        .filter(|entry| !matches!(entry.verdict, Verdict::Postponed(_)))
        .collect();
    let made: Vec<&DeliveryAttempt> = entries.iter().map(|entry| &entry.delivery_attempt).collect();
    per_backend!(&mut *connection, c => diesel::insert_into(delivery_attempts::table).values(made).execute(c))?;
    let counting: Vec<&Entry> = entries
        .into_iter()
        .filter(|entry| entry.counts && !moved.contains(&entry.delivery_attempt.delivery_id))
        .collect();
    let told = judge_endpoints(connection, &counting, now)?;
    due |= warn(connection, &told, now, installation)?;
    Ok(Recorded { ids, told, due })
}

/// The deliveries that failed at a URL which is not their endpoint's any more: that says nothing of where they go now.
fn moved(connection: &mut DbConnection, entries: &[Entry]) -> QueryResult<HashSet<i64>> {
    let failed: Vec<&Entry> =
        entries.iter().filter(|entry| entry.counts && entry.verdict != Verdict::Delivered).collect();
    if failed.is_empty() {
        return Ok(HashSet::new());
    }
    endpoints::lock(connection, Hold::Shared)?;
    let agents: Vec<i64> = failed.iter().map(|entry| entry.agent_id).collect();
    let held = endpoints::of_agents(connection, &agents)?;
    let url = |agent_id: i64| held.get(&agent_id).and_then(|endpoint| endpoint.url.as_deref());
    let moved = failed.into_iter().filter(|entry| url(entry.agent_id) != Some(&entry.target.url));
    Ok(moved.map(|entry| entry.delivery_attempt.delivery_id).collect())
}

/// What these outcomes say of their endpoints. Of one that had both, something arrived.
fn judge_endpoints(
    connection: &mut DbConnection,
    entries: &[&Entry],
    now: Timestamp,
) -> QueryResult<Vec<(EndpointState, i32)>> {
    let arrived: HashSet<i64> =
        entries.iter().filter(|entry| entry.verdict == Verdict::Delivered).map(|entry| entry.agent_id).collect();
    let arrived_ids: Vec<i64> = arrived.iter().copied().collect();
    states::arrived(connection, &arrived_ids)?;
    let mut failures: BTreeMap<i64, Failures> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.verdict != Verdict::Delivered) {
        let outcome = entry.delivery_attempt.outcome;
        if arrived.contains(&entry.agent_id) && outcome != OutcomeClass::Gone {
            continue;
        }
        let organisation = entry.organisation.clone();
        let none = || Failures { organisation, count: 0, last: outcome, gone: false };
        let failures = failures.entry(entry.agent_id).or_insert_with(none);
        failures.count += 1;
        failures.last = outcome;
        failures.gone |= outcome == OutcomeClass::Gone;
    }
    if failures.is_empty() { Ok(Vec::new()) } else { states::failed(connection, &failures, now) }
}

/// Makes a delivery to the organisation's alert URL of each, once. Returns whether one is due.
fn warn(
    connection: &mut DbConnection,
    told: &[(EndpointState, i32)],
    now: Timestamp,
    installation: Uuid,
) -> QueryResult<bool> {
    let mut due = false;
    for (state, percent) in told {
        let key = state.organisation.as_str();
        let held = organisations::of_keys(connection, &[key])?;
        if held.get(key).is_none_or(|organisation| organisation.alert_url.is_none()) {
            continue;
        }
        let disabled = *percent == DISABLED_PERCENT;
        let event = if disabled { ENDPOINT_DISABLED } else { ENDPOINT_FAILING };
        let body = Warning {
            timestamp: *now,
            event,
            organisation: key,
            periodic_agent: state.agent_id,
            callback_state: if disabled { "disabled" } else { "failing" },
            failing_since: *state.failing_since,
            disabled_from: state.disabled_from(),
            reason: state.disabled_reason.map(crate::words::DisableReason::as_str),
            failures: state.failures,
            last_outcome: state.last_outcome.as_str(),
        }
        .body();
        let id = webhook_id::of_warning(installation, state.agent_id, *state.failing_since, *percent);
        let row = NewDelivery::due(id, key, state.agent_id, event, body.len(), now);
        let row = NewDelivery { to_alert_url: true, ..row };
        due |= insert_one(connection, row, body)?.is_some();
    }
    Ok(due)
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
        .filter(is_leased(owner, number))
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

/// Whether `owner` still has the lease for this delivery attempt.
///
/// A CASE, which no index serves: a delivery is looked for by its id. While statistics are older than what waits,
/// PostgreSQL takes the index of all that are leased, or undelivered, for the shorter way, and reads all of them.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_leased(owner: Uid, number: i32) -> _ {
    let owner: Option<Uid> = Some(owner);
    let made: i32 = number - 1;
    let pending: Status = Status::Pending;
    let leased = deliveries::lease_owner
        .eq(owner)
        .and(deliveries::delivery_attempts_made.eq(made))
        .and(deliveries::status.eq(pending));
    let yes: AsExprOf<bool, Nullable<Bool>> = true.into_sql::<Nullable<Bool>>();
    let no: AsExprOf<bool, Nullable<Bool>> = false.into_sql::<Nullable<Bool>>();
    case_when(leased, yes).otherwise(no)
}

fn fail(
    connection: &mut DbConnection,
    owner: Uid,
    id: i64,
    number: i32,
    (status, due_at, settled_at): (Status, Option<Timestamp>, Option<Timestamp>),
) -> QueryResult<usize> {
    diesel::update(deliveries::table.find(id))
        .filter(is_leased(owner, number))
        .set((
            deliveries::status.eq(status),
            deliveries::delivery_attempts_made.eq(number),
            deliveries::round_failures.eq(deliveries::round_failures + 1),
            deliveries::due_at.eq(due_at),
            deliveries::lease_owner.eq(None::<Uid>),
            deliveries::settled_at.eq(settled_at),
        ))
        .execute(connection)
}

fn postpone(connection: &mut DbConnection, owner: Uid, id: i64, number: i32, due_at: Timestamp) -> QueryResult<usize> {
    diesel::update(deliveries::table.find(id))
        .filter(is_leased(owner, number))
        .set((deliveries::due_at.eq(Some(due_at)), deliveries::lease_owner.eq(None::<Uid>)))
        .execute(connection)
}
