//! Room for delivery attempts, so that no receiver takes it from its neighbours.
//!
//! Each endpoint has a *lane*. A lane begins narrow, widens while its receiver answers and narrows while it does not,
//! so that a receiver that hangs holds a few slots, not all. There are limits above it for a host, for an organisation,
//! for what is tried again (so that first delivery attempts always find room), for everything, and for the bytes of
//! bodies in memory. After [`FAILURES_MAX`] failures in a row without an answer worth the name, a lane closes for a
//! while; what is due waits, and then one delivery attempt finds out whether it may open. All of that is memory of this
//! process alone: a restart begins anew, and loses nothing.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

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
    /// The lane, or the way to its host, is full.
    LaneFull,
    /// The organisation has as many as it may.
    OrganisationFull,
    /// The lane is closed until then.
    Closed(DateTime<Utc>),
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
                Refusal::Closed(_) => {}
                _ => state.refused = true,
            }
            return Err(refusal);
        }
        if state.lanes.len() >= REMEMBERED_MAX && !state.lanes.contains_key(&wanted.lane) {
            state.lanes.retain(|_, lane| !lane.is_forgettable(now));
        }
        state.in_flight += 1;
        state.repeats += usize::from(!wanted.first);
        state.bytes += wanted.bytes;
        state.lanes.entry(wanted.lane.clone()).or_default().in_flight += 1;
        *state.organisations.entry(wanted.organisation.to_owned()).or_default() += 1;
        *state.hosts.entry(wanted.host.clone()).or_default() += 1;
        let Wanted { lane, organisation, host, first, bytes, .. } = wanted;
        Ok(Slot { lanes: Arc::clone(self), lane, organisation: organisation.to_owned(), host, first, bytes })
    }

    fn refusal(&self, state: &State, wanted: &Wanted<'_>, now: DateTime<Utc>) -> Option<Refusal> {
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
        (of(&state.hosts, &wanted.host) >= half).then_some(Refusal::LaneFull)
    }

    /// A claim begins: it finds out anew in which lanes something waits.
    pub(crate) fn begin_claim(&self) {
        let mut state = self.state();
        state.waited_for.clear();
        state.claimed = true;
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

    /// When there is room again where somebody found none.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn give_back(&self, slot: &Slot) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.repeats -= usize::from(!slot.first);
        state.bytes -= slot.bytes;
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
        let somebody_waits = state.found_full.remove(&slot.lane) || std::mem::take(&mut state.refused);
        drop(state);
        if somebody_waits {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(in_flight_max: usize) -> Arc<Lanes> {
        Lanes::new(Limits { in_flight_max, body_bytes_max: 1_000 })
    }

    fn noon() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn wanted(agent_id: i64) -> Wanted<'static> {
        let (lane, host) = (Lane::Endpoint(agent_id), format!("{agent_id}.example:443"));
        Wanted { lane, organisation: "acme", organisation_max: Some(1_000), host, first: true, fresh: false, bytes: 1 }
    }

    #[test]
    fn a_receiver_that_hangs_holds_a_few_slots_and_its_neighbours_find_room() {
        let lanes = lanes(100);
        let hanging: Vec<Slot> = (0..WIDTH_BEGIN).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
        assert_eq!(lanes.take(wanted(1), noon()).unwrap_err(), Refusal::LaneFull);
        assert!(lanes.take(wanted(2), noon()).is_ok());
        drop(hanging);
        assert!(lanes.take(wanted(1), noon()).is_ok());
    }

    #[test]
    fn what_is_new_goes_behind_what_has_waited() {
        let lanes = lanes(100);
        let fresh = || Wanted { fresh: true, ..wanted(1) };
        assert_eq!(lanes.take(fresh(), noon()).unwrap_err(), Refusal::LaneFull);
        lanes.begin_claim();
        let taken: Vec<Slot> = (0..WIDTH_BEGIN).map(|_| lanes.take(fresh(), noon()).unwrap()).collect();
        assert!(lanes.take(fresh(), noon()).is_err());
        drop(taken);
        assert_eq!(lanes.take(fresh(), noon()).unwrap_err(), Refusal::LaneFull);
        assert!(lanes.take(wanted(1), noon()).is_ok());
        lanes.begin_claim();
        assert!(lanes.take(fresh(), noon()).is_ok());
    }

    #[test]
    fn a_lane_widens_with_answers_and_narrows_without() {
        let lanes = lanes(100);
        let first = lanes.take(wanted(1), noon()).unwrap();
        (0..10).for_each(|_| lanes.answered(&Lane::Endpoint(1)));
        let more: Vec<Slot> = (1..WIDTH_MAX).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
        assert!(lanes.take(wanted(1), noon()).is_err());
        drop(more);
        assert!(!lanes.failed(&Lane::Endpoint(1), noon()));
        let half: Vec<Slot> = (1..WIDTH_MAX / 2).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
        assert!(lanes.take(wanted(1), noon()).is_err());
        drop((first, half));
    }

    #[test]
    fn a_closed_lane_opens_for_one_and_then_for_all_or_closes_for_longer() {
        let (lanes, lane) = (lanes(100), Lane::Endpoint(1));
        drop(lanes.take(wanted(1), noon()).unwrap());
        let closings: Vec<bool> = (0..7).map(|_| lanes.failed(&lane, noon())).collect();
        assert_eq!(closings, [false, false, false, false, true, false, false]);
        let until = noon() + CLOSED_MIN;
        assert_eq!(lanes.take(wanted(1), noon()).unwrap_err(), Refusal::Closed(until));

        let probe = lanes.take(wanted(1), until).unwrap();
        assert_eq!(lanes.take(wanted(1), until).unwrap_err(), Refusal::LaneFull);
        assert!(lanes.failed(&lane, until));
        drop(probe);
        let later = until + CLOSED_MIN * 2;
        assert_eq!(lanes.take(wanted(1), until).unwrap_err(), Refusal::Closed(later));
        let probe = lanes.take(wanted(1), later).unwrap();
        lanes.answered(&lane);
        assert!(lanes.take(wanted(1), later).is_ok());
        drop(probe);
    }

    #[test]
    fn what_is_tried_again_leaves_room_for_what_is_new() {
        let lanes = lanes(8);
        let repeat = |agent_id: i64| Wanted { first: false, ..wanted(agent_id) };
        let repeats: Vec<Slot> = (0..6).map(|n| lanes.take(repeat(n), noon()).unwrap()).collect();
        assert_eq!(lanes.take(repeat(6), noon()).unwrap_err(), Refusal::FullOfRepeats);
        let new: Vec<Slot> = (6..8).map(|n| lanes.take(wanted(n), noon()).unwrap()).collect();
        assert_eq!(lanes.take(wanted(8), noon()).unwrap_err(), Refusal::Full);
        drop((repeats, new));
    }

    #[test]
    fn an_organisation_and_a_host_have_their_limits() {
        let lanes = lanes(8);
        let two = |agent_id: i64| Wanted { organisation_max: Some(2), ..wanted(agent_id) };
        let taken = [lanes.take(two(1), noon()).unwrap(), lanes.take(two(2), noon()).unwrap()];
        assert_eq!(lanes.take(two(3), noon()).unwrap_err(), Refusal::OrganisationFull);
        lanes.share_among(2);
        drop(taken);
        let one = lanes.take(two(1), noon()).unwrap();
        assert_eq!(lanes.take(two(2), noon()).unwrap_err(), Refusal::OrganisationFull);
        drop(one);

        let there = |agent_id: i64| Wanted { host: "shared.example:443".into(), ..wanted(agent_id) };
        let taken: Vec<Slot> = (0..4).map(|n| lanes.take(there(n), noon()).unwrap()).collect();
        assert_eq!(lanes.take(there(5), noon()).unwrap_err(), Refusal::LaneFull);
        drop(taken);
    }

    #[test]
    fn bodies_in_memory_are_bounded_and_a_large_one_goes_alone() {
        let lanes = lanes(8);
        let large = |agent_id: i64| Wanted { bytes: 5_000, ..wanted(agent_id) };
        let alone = lanes.take(large(1), noon()).unwrap();
        assert_eq!(lanes.take(wanted(2), noon()).unwrap_err(), Refusal::Full);
        drop(alone);
        let small = lanes.take(wanted(2), noon()).unwrap();
        assert_eq!(lanes.take(large(1), noon()).unwrap_err(), Refusal::Full);
        drop(small);
    }

    #[tokio::test]
    async fn who_found_no_room_is_told_when_there_is_some() {
        let lanes = lanes(1);
        let only = lanes.take(wanted(1), noon()).unwrap();
        assert_eq!(lanes.take(wanted(2), noon()).unwrap_err(), Refusal::Full);
        drop(only);
        lanes.freed().await;
        assert!(lanes.take(wanted(2), noon()).is_ok());
    }
}
