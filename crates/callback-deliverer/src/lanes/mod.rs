//! Room for delivery attempts, so that no receiver takes it from its neighbours.
//!
//! Each endpoint has a *lane*. A lane begins narrow, widens while its receiver answers and narrows while it does not,
//! so that a receiver that hangs holds a few slots, not all. There are limits above it for a host, for an organisation,
//! for what is tried again (so that first delivery attempts always find room), for everything, and for the bytes of
//! bodies in memory. After [`FAILURES_MAX`] failures in a row without an answer worth the name, a lane closes for a
//! while; what is due waits, and then one delivery attempt finds out whether it may open. All of that is memory of this
//! process alone: a restart begins anew, and loses nothing.
//!
//! A delivery that has a slot gets no second one: what this process still has in hand it does not send again, although
//! its lease ran out while what came of it could not be recorded.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

/// How many delivery attempts a lane begins with.
const WIDTH_BEGIN: usize = 4;
/// The widest that a lane gets.
const WIDTH_MAX: usize = 32;
/// Failures in a row after which a lane closes.
const FAILURES_MAX: u32 = 5;
/// How long a lane is closed first; doubled each time that it does not open.
const CLOSED_MIN: TimeDelta = TimeDelta::seconds(5);
const CLOSED_MAX: TimeDelta = TimeDelta::minutes(2);
/// Lanes that are remembered although they are empty.
const REMEMBERED_MAX: usize = 10_000;

/// Where a delivery stands among those that are due: since when, and its id.
pub(crate) type Place = (DateTime<Utc>, i64);

/// Where deliveries go one beside the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// To an agent's endpoint.
    Endpoint(i64),
    /// To an organisation's alert URL.
    Alerts(String),
}

/// What a delivery attempt needs room for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// Names the delivery.
    pub(crate) webhook_id: Uuid,
    pub(crate) lane: Lane,
    pub(crate) organisation: &'a str,
    /// The organisation's own limit.
    pub(crate) organisation_max: Option<usize>,
    /// Where it is sent: host and port.
    pub(crate) host: String,
    /// Whether nothing has failed yet.
    pub(crate) first: bool,
    /// Whether it is new, and not from the database, where what is older may wait.
    pub(crate) fresh: bool,
    pub(crate) bytes: u64,
}

/// Why there is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The whole process is full.
    Full,
    /// It is as full as it may be with what is tried again.
    FullOfRepeats,
    /// The lane is full.
    LaneFull,
    /// The way to its host is full.
    HostFull,
    /// The organisation has as many as it may.
    OrganisationFull,
    /// The lane is closed until then.
    Closed(DateTime<Utc>),
    /// This process has the delivery in hand already.
    InHand,
}

/// The limits of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) in_flight_max: usize,
    pub(crate) body_bytes_max: u64,
}

/// All lanes of a process.
pub(crate) struct Lanes {
    limits: Limits,
    /// How many processes share what is allowed to an organisation.
    replicas: AtomicUsize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    repeats: usize,
    bytes: u64,
    /// The deliveries that have a slot, each with whether a claim found it so: he is told when it has none.
    in_hand: HashMap<Uuid, bool>,
    lanes: HashMap<Lane, LaneState>,
    organisations: HashMap<String, usize>,
    hosts: HashMap<String, usize>,
    /// Lanes that somebody found full: he is told when there is room again.
    found_full: HashSet<Lane>,
    /// Somebody found something else full.
    refused: bool,
    /// Lanes in which something has waited since the last claim: what is new goes behind it.
    waited_for: HashSet<Lane>,
    /// Before the first claim, something may wait in any lane.
    claimed: bool,
    goes_on_after: Option<Place>,
}

struct LaneState {
    in_flight: usize,
    width: usize,
    failures: u32,
    closed: Option<Closed>,
}

#[derive(Clone, Copy)]
struct Closed {
    until: DateTime<Utc>,
    length: TimeDelta,
}

/// Room for one delivery attempt, given back when dropped.
pub(crate) struct Slot {
    lanes: Arc<Lanes>,
    webhook_id: Uuid,
    lane: Lane,
    organisation: String,
    host: String,
    first: bool,
    bytes: u64,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.lane).finish()
    }
}

impl Default for LaneState {
    fn default() -> Self {
        Self { in_flight: 0, width: WIDTH_BEGIN, failures: 0, closed: None }
    }
}

impl LaneState {
    /// Whether nothing would be forgotten with it.
    fn is_forgettable(&self, now: DateTime<Utc>) -> bool {
        self.in_flight == 0 && self.closed.is_none_or(|closed| closed.until + closed.length < now)
    }
}

impl Lanes {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let replicas = AtomicUsize::new(1);
        Arc::new(Self { limits, replicas, state: Mutex::default(), freed: Notify::new() })
    }

    /// Takes room for one delivery attempt, or says why there is none.
    pub(crate) fn take(self: &Arc<Self>, wanted: Wanted<'_>, now: DateTime<Utc>) -> Result<Slot, Refusal> {
        let mut state = self.state();
        if let Some(refusal) = self.refusal(&state, &wanted, now) {
            match refusal {
                Refusal::LaneFull => {
                    state.waited_for.insert(wanted.lane.clone());
                    state.found_full.insert(wanted.lane);
                }
                Refusal::HostFull => {
                    state.waited_for.insert(wanted.lane);
                    state.refused = true;
                }
                // What comes again while it is in hand is there already.
                Refusal::InHand if !wanted.fresh => drop(state.in_hand.insert(wanted.webhook_id, true)),
                Refusal::Closed(_) | Refusal::InHand => {}
                Refusal::Full | Refusal::FullOfRepeats | Refusal::OrganisationFull => state.refused = true,
            }
            return Err(refusal);
        }
        if state.lanes.len() >= REMEMBERED_MAX && !state.lanes.contains_key(&wanted.lane) {
            state.lanes.retain(|_, lane| !lane.is_forgettable(now));
        }
        state.in_flight += 1;
        state.repeats += usize::from(!wanted.first);
        state.bytes += wanted.bytes;
        state.in_hand.insert(wanted.webhook_id, false);
        state.lanes.entry(wanted.lane.clone()).or_default().in_flight += 1;
        *state.organisations.entry(wanted.organisation.to_owned()).or_default() += 1;
        *state.hosts.entry(wanted.host.clone()).or_default() += 1;
        let Wanted { webhook_id, lane, organisation, host, first, bytes, .. } = wanted;
        let organisation = organisation.to_owned();
        Ok(Slot { lanes: Arc::clone(self), webhook_id, lane, organisation, host, first, bytes })
    }

    fn refusal(&self, state: &State, wanted: &Wanted<'_>, now: DateTime<Utc>) -> Option<Refusal> {
        if state.in_hand.contains_key(&wanted.webhook_id) {
            return Some(Refusal::InHand);
        }
        if wanted.fresh && (!state.claimed || state.waited_for.contains(&wanted.lane)) {
            return Some(Refusal::LaneFull);
        }
        let all = self.limits.in_flight_max;
        // Half of all: what two organisations, or two hosts, can never fill between them.
        let half = all.div_ceil(2);
        if let Some(lane) = state.lanes.get(&wanted.lane) {
            if let Some(closed) = lane.closed.filter(|closed| closed.until > now) {
                return Some(Refusal::Closed(closed.until));
            }
            // Once it could open, one finds out.
            let width = if lane.closed.is_some() { 1 } else { lane.width };
            if lane.in_flight >= width {
                return Some(Refusal::LaneFull);
            }
        }
        // A body larger than all the room goes alone.
        let no_bytes = state.in_flight > 0 && state.bytes + wanted.bytes > self.limits.body_bytes_max;
        if state.in_flight >= all || no_bytes {
            return Some(Refusal::Full);
        }
        if !wanted.first && all > 1 && state.repeats >= (all * 3 / 4).max(1) {
            return Some(Refusal::FullOfRepeats);
        }
        let share = wanted.organisation_max.map(|max| max.div_ceil(self.replicas.load(Ordering::Relaxed).max(1)));
        let of = |taken: &HashMap<String, usize>, key: &str| taken.get(key).copied().unwrap_or(0);
        if of(&state.organisations, wanted.organisation) >= share.unwrap_or(half) {
            return Some(Refusal::OrganisationFull);
        }
        (of(&state.hosts, &wanted.host) >= half).then_some(Refusal::HostFull)
    }

    /// A claim begins: after this place, where the last one had to leave off; or else with what is due longest, and
    /// then it finds out anew in which lanes something waits.
    pub(crate) fn begin_claim(&self) -> Option<Place> {
        let mut state = self.state();
        state.claimed = true;
        let place = state.goes_on_after.take();
        if place.is_none() {
            state.waited_for.clear();
        }
        place
    }

    /// A claim ended before it had seen all that is due: so that it is not the same that are never seen, the next one
    /// goes on there.
    pub(crate) fn go_on_after(&self, place: Option<Place>) {
        self.state().goes_on_after = place;
    }

    /// Nothing is due.
    pub(crate) fn nothing_waits(&self) {
        self.go_on_after(None);
        self.begin_claim();
    }

    /// The receiver of a lane answered.
    pub(crate) fn answered(&self, lane: &Lane) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            (lane.failures, lane.closed) = (0, None);
            lane.width = (lane.width * 2).min(WIDTH_MAX);
        }
    }

    /// The receiver of a lane is away or overwhelmed. Returns whether the lane closed.
    pub(crate) fn failed(&self, lane: &Lane, now: DateTime<Utc>) -> bool {
        let mut state = self.state();
        let Some(lane) = state.lanes.get_mut(lane) else { return false };
        lane.width = (lane.width / 2).max(1);
        lane.failures = lane.failures.saturating_add(1);
        let length = match lane.closed {
            // What was on its way when it closed says nothing new.
            Some(closed) if closed.until > now => return false,
            Some(closed) => (closed.length * 2).min(CLOSED_MAX),
            None if lane.failures < FAILURES_MAX => return false,
            None => CLOSED_MIN,
        };
        lane.closed = Some(Closed { until: now + length, length });
        true
    }

    /// Opens a lane: its endpoint was corrected or enabled.
    pub(crate) fn forget(&self, lane: &Lane) {
        if let Some(lane) = self.state().lanes.get_mut(lane) {
            *lane = LaneState { in_flight: lane.in_flight, ..LaneState::default() };
        }
    }

    /// How many processes share the organisations' limits.
    pub(crate) fn share_among(&self, replicas: usize) {
        self.replicas.store(replicas.max(1), Ordering::Relaxed);
    }

    /// When there is room again where somebody found none, or a delivery is out of hand that was found in it.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn give_back(&self, slot: &Slot) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.repeats -= usize::from(!slot.first);
        state.bytes -= slot.bytes;
        let found_in_hand = state.in_hand.remove(&slot.webhook_id).unwrap_or(false);
        if let Some(lane) = state.lanes.get_mut(&slot.lane) {
            lane.in_flight -= 1;
        }
        let State { organisations, hosts, .. } = &mut *state;
        for (taken, key) in [(organisations, &slot.organisation), (hosts, &slot.host)] {
            if let Some(count) = taken.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(key);
                }
            }
        }
        let found_full = state.found_full.remove(&slot.lane) || std::mem::take(&mut state.refused);
        drop(state);
        if found_full || found_in_hand {
            self.freed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let lanes = Arc::clone(&self.lanes);
        lanes.give_back(self);
    }
}
