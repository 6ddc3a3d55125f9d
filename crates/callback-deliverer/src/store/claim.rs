//! Claiming deliveries that are due.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp, Uid};

use super::endpoints::{self, Endpoint, Fate, Hold};
use super::organisations::{self, Organisation};
use super::states::{self, EndpointState};
use super::{Leased, Lessee, ROWS_MAX, Target, lane};
use crate::lanes::{Lanes, Place, Refusal, Slot, Wanted};
use crate::payload::PING;
use crate::schema::{deliveries, delivery_bodies};
use crate::words::{DiscardReason, Status};

/// Most due deliveries looked at in one statement.
const LOOKED_AT_MAX: usize = 256;
/// Most statements of one claim: each begins where the one before ended, and passes over what those found full.
const LOOKS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = deliveries)]
struct Due {
    id: i64,
    webhook_id: Uid,
    organisation: String,
    agent_id: i64,
    log_id: Option<i64>,
    event: String,
    to_alert_url: bool,
    awaits_version: Option<i64>,
    delivery_attempts_made: i32,
    round_began_at: Timestamp,
    round_failures: i32,
    body_bytes: i64,
    due_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// What is passed over, as it was looked at already or there is no room for it.
#[derive(Debug, Default)]
struct PassedOver {
    /// When the last one was due that was looked at, and its id.
    up_to: Option<Place>,
    full: Full,
    /// What other replicas were quicker to take.
    taken: Vec<i64>,
}

/// What there is no room for.
#[derive(Debug, Default)]
struct Full {
    agents: Vec<i64>,
    organisations: Vec<String>,
    repeats: bool,
    everything: bool,
}

/// What is to become of deliveries that were looked at, as far as nobody else takes them first.
#[derive(Default)]
struct Decisions {
    /// Where each goes, and the room for it.
    send: HashMap<i64, (Target, Slot)>,
    /// They wait for their endpoints.
    awaiting: Vec<i64>,
    held: Vec<i64>,
    discarded: HashMap<DiscardReason, Vec<i64>>,
    in_hand: Vec<i64>,
    /// Lanes that are closed, by agent and whether to the alert URL, and until when.
    closed: BTreeMap<(i64, bool), DateTime<Utc>>,
    full: Full,
}

/// What came of a claim.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    /// To be sent.
    pub(crate) leased: Vec<Leased>,
    /// How many have nobody any more who would receive them.
    pub(crate) discarded: usize,
}

/// What the endpoints and organisations of some deliveries say now.
struct Held {
    endpoints: HashMap<i64, Endpoint>,
    states: HashMap<i64, EndpointState>,
    organisations: HashMap<String, Organisation>,
}

/// When the next delivery is due, if any is.
pub(crate) fn next_due(connection: &mut DbConnection) -> QueryResult<Option<Timestamp>> {
    let due_at: Option<Option<Timestamp>> = deliveries::table
        .filter(deliveries::due_at.is_not_null())
        .order(deliveries::due_at)
        .select(deliveries::due_at)
        .first(connection)
        .optional()?;
    Ok(due_at.flatten())
}

/// Leases due deliveries as far as there is room for them, longest due first, each with its endpoint as it is held now.
///
/// It looks without locking, and locks only what it changes: what there is no room for stays free for other replicas.
/// What it had not come to after [`LOOKS_MAX`] looks, the next claim begins with.
pub(crate) fn claim(connection: &mut DbConnection, lessee: &Lessee, lanes: &Arc<Lanes>) -> QueryResult<Claimed> {
    endpoints::lock(connection, Hold::Shared)?;
    let mut claimed = Claimed::default();
    let mut passed_over = PassedOver { up_to: lanes.begin_claim(), ..PassedOver::default() };
    for _ in 0..LOOKS_MAX {
        let due = look(connection, lessee.now, &passed_over)?;
        let all_seen = due.len() < LOOKED_AT_MAX;
        let up_to = due.last().and_then(|last| Some((*last.due_at?, last.id)));
        let held = held_for(connection, &due)?;
        let mut decisions = decide(&due, &held, lanes, lessee);
        let full = std::mem::take(&mut decisions.full);
        let taken = write(connection, due, decisions, lessee, &mut claimed)?;
        if !taken.is_empty() {
            // The room for these is there for others, so it looks once more.
            passed_over.taken.extend(taken);
            continue;
        }
        if full.everything || all_seen {
            return Ok(claimed);
        }
        passed_over.up_to = up_to;
        passed_over.full.add(full);
    }
    lanes.go_on_after(passed_over.up_to);
    Ok(claimed)
}

/// Decides about each due delivery, and takes the room for those that are to be sent.
fn decide(due: &[Due], held: &Held, lanes: &Arc<Lanes>, lessee: &Lessee) -> Decisions {
    let mut decisions = Decisions::default();
    let full = &mut decisions.full;
    for row in due {
        let target = match held.fate(row) {
            Fate::Send(target) => target,
            Fate::AwaitDocument | Fate::AwaitUrl => {
                decisions.awaiting.push(row.id);
                continue;
            }
            Fate::Hold => {
                decisions.held.push(row.id);
                continue;
            }
            Fate::Discard(reason) => {
                decisions.discarded.entry(reason).or_default().push(row.id);
                continue;
            }
        };
        let wanted = Wanted {
            webhook_id: *row.webhook_id,
            lane: lane(row.to_alert_url, row.agent_id, &row.organisation),
            organisation: &row.organisation,
            organisation_max: held.organisations.get(&row.organisation).and_then(Organisation::in_flight_max),
            host: target.host(),
            first: row.round_failures == 0,
            fresh: false,
            bytes: u64::try_from(row.body_bytes).unwrap_or(0),
        };
        match lanes.take(wanted, *lessee.now) {
            Ok(slot) => drop(decisions.send.insert(row.id, (target, slot))),
            Err(Refusal::Full) => full.everything = true,
            Err(Refusal::FullOfRepeats) => full.repeats = true,
            Err(Refusal::LaneFull | Refusal::HostFull) => full.agents.push(row.agent_id),
            Err(Refusal::OrganisationFull) => full.organisations.push(row.organisation.clone()),
            Err(Refusal::InHand) => decisions.in_hand.push(row.id),
            Err(Refusal::Closed(until)) => drop(decisions.closed.insert((row.agent_id, row.to_alert_url), until)),
        }
    }
    decisions
}

/// Does what was decided. Returns what another replica was quicker to take: the room for that is free again.
fn write(
    connection: &mut DbConnection,
    due: Vec<Due>,
    decisions: Decisions,
    lessee: &Lessee,
    claimed: &mut Claimed,
) -> QueryResult<Vec<i64>> {
    let Decisions { mut send, awaiting, held, discarded, in_hand, closed, .. } = decisions;
    let due = lock(connection, due, lessee.now, |id| {
        let unsent = [&awaiting, &held, &in_hand].into_iter().chain(discarded.values());
        send.contains_key(&id) || unsent.flatten().any(|other| *other == id)
    })?;
    let ours =
        |ids: Vec<i64>| -> Vec<i64> { ids.into_iter().filter(|id| due.iter().any(|row| row.id == *id)).collect() };
    put_back(connection, &ours(awaiting), Status::Pending)?;
    put_back(connection, &ours(held), Status::Held)?;
    for (reason, ids) in discarded {
        claimed.discarded += discard(connection, &ours(ids), reason, lessee.now)?;
    }
    keep(connection, &ours(in_hand), lessee)?;
    for ((agent_id, to_alert_url), until) in closed {
        wait(connection, agent_id, to_alert_url, lessee.now, until.into())?;
    }
    let sent = due.into_iter().filter_map(|row| {
        let (target, slot) = send.remove(&row.id)?;
        Some(row.leased(target, slot))
    });
    let mut leased: Vec<Leased> = sent.collect();
    lease(connection, &mut leased, lessee)?;
    claimed.leased.extend(leased);
    Ok(send.into_keys().collect())
}

impl Full {
    fn add(&mut self, other: Self) {
        self.agents.extend(other.agents);
        self.organisations.extend(other.organisations);
        self.repeats |= other.repeats;
    }
}

impl Due {
    /// Its body is still to be read.
    fn leased(self, target: Target, slot: Slot) -> Leased {
        Leased {
            id: self.id,
            webhook_id: *self.webhook_id,
            agent_id: self.agent_id,
            log_id: self.log_id,
            organisation: self.organisation,
            event: self.event,
            to_alert_url: self.to_alert_url,
            created_at: *self.created_at,
            number: self.delivery_attempts_made + 1,
            round_began_at: *self.round_began_at,
            round_failures: self.round_failures,
            body: String::new(),
            target,
            slot,
        }
    }
}

impl Held {
    fn fate(&self, row: &Due) -> Fate {
        if row.to_alert_url {
            let target = self.organisations.get(&row.organisation).and_then(Organisation::alert_target);
            return target.map_or(Fate::Discard(DiscardReason::CallbackRemoved), Fate::Send);
        }
        let disabled = self.states.get(&row.agent_id).is_some_and(|state| state.disabled_at.is_some());
        // What was tried once had an endpoint: of its agent not even a tombstone is left.
        if row.delivery_attempts_made > 0 && !self.endpoints.contains_key(&row.agent_id) {
            return Fate::Discard(DiscardReason::AgentDeleted);
        }
        // It waited as long as any delivery waits for a URL, so one that is missing now is gone.
        let long_ago = DateTime::UNIX_EPOCH;
        match Endpoint::fate(self.endpoints.get(&row.agent_id), row.awaits_version, long_ago) {
            Fate::Send(_) if disabled && row.event != PING => Fate::Hold,
            fate => fate,
        }
    }
}

fn held_for(connection: &mut DbConnection, due: &[Due]) -> QueryResult<Held> {
    let mut agents: Vec<i64> = due.iter().map(|row| row.agent_id).collect();
    agents.sort_unstable();
    agents.dedup();
    let mut keys: Vec<&str> = due.iter().map(|row| row.organisation.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(Held {
        endpoints: endpoints::of_agents(connection, &agents)?,
        states: states::of_agents(connection, &agents)?,
        organisations: organisations::of_keys(connection, &keys)?,
    })
}

/// Reads what is due, and locks nothing.
fn look(connection: &mut DbConnection, now: Timestamp, passed_over: &PassedOver) -> QueryResult<Vec<Due>> {
    let most_failures = if passed_over.full.repeats { 0 } else { i32::MAX };
    let (from, after) = passed_over.up_to.unwrap_or((DateTime::UNIX_EPOCH, 0));
    let from = Timestamp::from(from);
    deliveries::table
        .filter(deliveries::due_at.le(Some(now)))
        .filter(deliveries::due_at.ge(Some(from)))
        .filter(deliveries::due_at.gt(Some(from)).or(deliveries::id.gt(after)))
        .filter(deliveries::id.ne_all(passed_over.taken.clone()))
        .filter(deliveries::agent_id.ne_all(passed_over.full.agents.clone()))
        .filter(deliveries::organisation.ne_all(passed_over.full.organisations.clone()))
        .filter(deliveries::round_failures.le(most_failures))
        .order((deliveries::due_at, deliveries::id))
        .limit(LOOKED_AT_MAX as i64)
        .select(Due::as_select())
        .load(connection)
}

/// Locks those of `due` that something was decided about, and returns them: without what another replica has locked or
/// changed since they were looked at. In SQLite nobody else writes meanwhile.
fn lock(
    connection: &mut DbConnection,
    mut due: Vec<Due>,
    now: Timestamp,
    decided: impl Fn(i64) -> bool,
) -> QueryResult<Vec<Due>> {
    due.retain(|row| decided(row.id));
    let DbConnection::Postgres(connection) = connection else { return Ok(due) };
    if due.is_empty() {
        return Ok(due);
    }
    let locked: Vec<Due> = deliveries::table
        .filter(deliveries::id.eq_any(due.iter().map(|row| row.id).collect::<Vec<_>>()))
        .filter(deliveries::due_at.le(Some(now)))
        .order(deliveries::id)
        .select(Due::as_select())
        .for_update()
        .skip_locked()
        .load(connection)?;
    let locked: HashMap<i64, Due> = locked.into_iter().map(|row| (row.id, row)).collect();
    due.retain(|row| locked.get(&row.id) == Some(row));
    Ok(due)
}

fn lease(connection: &mut DbConnection, leased: &mut [Leased], lessee: &Lessee) -> QueryResult<()> {
    if leased.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = leased.iter().map(|delivery| delivery.id).collect();
    diesel::update(deliveries::table.filter(deliveries::id.eq_any(&ids)))
        .set((deliveries::due_at.eq(Some(lessee.until)), deliveries::lease_owner.eq(Some(lessee.owner))))
        .execute(connection)?;
    let bodies: Vec<(i64, String)> =
        delivery_bodies::table.filter(delivery_bodies::delivery_id.eq_any(&ids)).load(connection)?;
    let mut bodies: HashMap<i64, String> = bodies.into_iter().collect();
    for delivery in leased {
        delivery.body = bodies.remove(&delivery.id).ok_or(diesel::result::Error::NotFound)?;
    }
    Ok(())
}

/// What this process has in hand still, it leases anew if the lease is its own: what came of it could not be recorded
/// yet. Anything else stays due, for other replicas, and for this one when it is out of hand: it is so for a moment when
/// its outcome was just committed, or when a result comes again.
fn keep(connection: &mut DbConnection, in_hand: &[i64], lessee: &Lessee) -> QueryResult<usize> {
    if in_hand.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table.filter(deliveries::id.eq_any(in_hand)))
        .filter(deliveries::lease_owner.eq(Some(lessee.owner)))
        .set(deliveries::due_at.eq(Some(lessee.until)))
        .execute(connection)
}

/// What is due in a lane that is closed waits until it may open.
fn wait(
    connection: &mut DbConnection,
    agent_id: i64,
    to_alert_url: bool,
    now: Timestamp,
    until: Timestamp,
) -> QueryResult<()> {
    let due = deliveries::table
        .filter(deliveries::agent_id.eq(agent_id))
        .filter(endpoints::undelivered())
        .filter(deliveries::status.eq(Status::Pending))
        .filter(deliveries::to_alert_url.eq(to_alert_url))
        .filter(deliveries::due_at.le(Some(now)))
        .select(deliveries::id);
    // Two replicas may find the lane closed at once, each with some of these rows locked: neither waits for the other.
    let ids: Vec<i64> = match connection {
        DbConnection::Postgres(connection) => due.for_update().skip_locked().load(connection)?,
        DbConnection::Sqlite(connection) => due.load(connection)?,
    };
    for ids in ids.chunks(ROWS_MAX) {
        diesel::update(deliveries::table.filter(deliveries::id.eq_any(ids)))
            .set((deliveries::due_at.eq(Some(until)), deliveries::lease_owner.eq(None::<Uid>)))
            .execute(connection)?;
    }
    Ok(())
}

/// Nobody has to look at these until something else happens.
fn put_back(connection: &mut DbConnection, ids: &[i64], status: Status) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table.filter(deliveries::id.eq_any(ids)))
        .set((
            deliveries::status.eq(status),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::lease_owner.eq(None::<Uid>),
        ))
        .execute(connection)
}

fn discard(connection: &mut DbConnection, ids: &[i64], reason: DiscardReason, now: Timestamp) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table.filter(deliveries::id.eq_any(ids)))
        .set((
            deliveries::status.eq(Status::Discarded),
            deliveries::reason.eq(Some(reason)),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::lease_owner.eq(None::<Uid>),
            deliveries::settled_at.eq(Some(now)),
        ))
        .execute(connection)
}
