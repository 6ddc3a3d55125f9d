//! When an agent fires: what counts as a change of its timing, what cannot be meant, what to show until the dispatcher
//! says it.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use chrono_tz::Tz;
use model::crontab::Crontab;

use crate::store::agents::AgentRow;
use crate::store::organisations::OrganisationRow;
use crate::validation::fields::Faults;

/// A day of a minutely crontab, and years of a daily one: among so many ticks are the two that are closest.
const TICKS_LOOKED_AT: usize = 1_500;
/// Later years cannot be written.
const YEAR_MAX: i32 = 9_999;

/// Whether what is due has to be settled under the old timing and planned anew.
///
/// Overlap, catch-up, attempts and time-out are no timing: they say what becomes of a tick when it is due, and leave
/// the ticks themselves where they are. Turning an agent off moves none either: there are none until it is turned on. One
/// that follows another has no ticks of its own, but a one-off is finished for its timing: turned on, it gets a new one.
pub(crate) fn changed(before: &AgentRow, after: &AgentRow) -> bool {
    let enabled = after.enabled && !before.enabled;
    let turned_on = enabled || after.fires_by_itself() && !before.fires_by_itself();
    turned_on
        || before.crontab() != after.crontab()
        || before.timezone != after.timezone
        || before.one_off != after.one_off
        || before.start_time != after.start_time
        || before.end_time != after.end_time
        || before.jitter_seconds != after.jitter_seconds
}

/// Notes what cannot be meant by a timing that is new.
pub(crate) fn check(
    organisation: Option<&OrganisationRow>,
    before: Option<&AgentRow>,
    row: &AgentRow,
    now: DateTime<Utc>,
    faults: &Faults,
) {
    let Ok(crontab) = Crontab::parse(&row.crontab()) else { return };
    if before.is_some_and(|before| !changed(before, row)) {
        return;
    }
    let zone = zone(organisation, row);
    check_bounds(&crontab, zone, row, now, faults);
    if row.jitter_seconds > 0
        && !row.one_off
        && let Some(gap) = shortest_gap(&crontab, zone, now)
        && i64::from(row.jitter_seconds) >= gap
    {
        let fault = format!("Must be less than the shortest time between two ticks, which is {gap} seconds.");
        faults.add("task.jitter_seconds", fault);
    }
}

fn check_bounds(crontab: &Crontab, zone: Tz, row: &AgentRow, now: DateTime<Utc>, faults: &Faults) {
    let first = crontab.next_after(zone, from(row, now)).filter(|tick| tick.year() <= YEAR_MAX);
    if row.enabled && row.start_time.is_some() && first.is_none() {
        faults.add("task.start_time", "The crontab has no tick from then on.");
    }
    let Some(end) = row.end_time.map(DateTime::from) else { return };
    if row.start_time.is_some_and(|start| DateTime::from(start) >= end) {
        faults.add("task.end_time", "Must be later than `start_time`.");
    } else if row.enabled && first.is_none_or(|tick| tick >= end) {
        faults.add("task.end_time", "The crontab has no tick left before this.");
    }
}

fn shortest_gap(crontab: &Crontab, zone: Tz, now: DateTime<Utc>) -> Option<i64> {
    let mut ticks = crontab.ticks(zone, now);
    let mut earlier = ticks.next()?;
    let gaps = ticks.take(TICKS_LOOKED_AT).map(|tick| {
        let gap = tick - earlier;
        earlier = tick;
        gap.num_seconds()
    });
    gaps.min()
}

/// Ticks later than this count.
fn from(row: &AgentRow, now: DateTime<Utc>) -> DateTime<Utc> {
    let start = row.start_time.map_or(DateTime::UNIX_EPOCH, DateTime::from);
    now.max(start - TimeDelta::microseconds(1))
}

fn zone(organisation: Option<&OrganisationRow>, row: &AgentRow) -> Tz {
    let own = row.timezone.as_deref().and_then(|name| name.parse().ok());
    own.or(organisation.map(OrganisationRow::zone)).unwrap_or(Tz::UTC)
}

/// When the agent will fire, to be shown until the dispatcher, which decides it, says so itself.
pub(crate) fn next_fire(
    organisation: Option<&OrganisationRow>,
    row: &AgentRow,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let crontab = Crontab::parse(&row.crontab()).ok().filter(|_| row.fires_by_itself())?;
    let tick = crontab.next_after(zone(organisation, row), from(row, now))?;
    Some(tick).filter(|tick| row.end_time.is_none_or(|end| *tick < DateTime::from(end)))
}
