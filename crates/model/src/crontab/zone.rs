//! From local times to instants: what a crontab means while the clocks of a time zone change.
//!
//! - **Every hour selected: real time.** A tick wherever the local reading matches, so an hour that occurs twice has
//!   its ticks twice, and one that does not occur has none.
//! - **Otherwise: the clock on the wall.** Each matching local time ticks once: at its first occurrence if it occurs
//!   twice; if it falls into a gap, later by the length of the gap, as if the clocks had not changed yet. Two local
//!   times that end on one instant are one tick.
//!
//! The search walks along instants from one change of the zone's offset to the next, because order by local time and
//! order by instant differ around a gap. Looking one window back for the last change makes the answer for a moment
//! inside a shifted or repeated hour the same as if the search had started long before it.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::Crontab;

/// 0001-01-01T00:00:00Z, in seconds since 1970.
pub(super) const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, in seconds since 1970.
pub(super) const LAST: i64 = 253_402_300_799;

/// How far around a moment one change of offset is looked for.
///
/// Longer than any gap (a whole day, where the date line moved) and than the difference of any two offsets of one
/// zone (25.5 hours), yet so short that no zone changes twice within it: the closest pair is almost a week apart.
const WINDOW: i64 = 36 * 3600;

/// A change of a zone's offset from UTC: from the second `at`, `after` is in force. All in seconds.
#[derive(Clone, Copy)]
struct Change {
    at: i64,
    before: i64,
    after: i64,
}

/// The first tick at or after `from`.
pub(super) fn first_tick(crontab: &Crontab, zone: Tz, mut from: i64) -> Option<i64> {
    let mut offset = offset_at(zone, from);
    let mut last_change = change_between(zone, from - WINDOW, from);
    loop {
        let tick = first_tick_at_offset(crontab, from, offset, last_change)?;
        let horizon = tick.min(from + WINDOW);
        if let Some(change) = change_between(zone, from, horizon) {
            // The tick was reckoned with an offset that is over by then.
            (from, offset, last_change) = (change.at, change.after, Some(change));
        } else if tick == horizon {
            return Some(tick);
        } else {
            // Whatever the offsets until then, they cannot bring the next matching local time further forward.
            from = tick - WINDOW;
            offset = offset_at(zone, from);
            last_change = change_between(zone, from - WINDOW, from);
        }
    }
}

/// The first tick at or after `from` if `offset` stayed in force for ever, `last` being the change that brought it.
fn first_tick_at_offset(crontab: &Crontab, from: i64, offset: i64, last: Option<Change>) -> Option<i64> {
    let local = from + offset;
    let Some(last) = last.filter(|_| !crontab.selects_every_hour()) else {
        return Some(crontab.next_local(local)? - offset);
    };
    let (old_end, new_start) = (last.at + last.before, last.at + last.after);
    // When the clocks went back, what lies before the old end has had its tick.
    let tick = crontab.next_local(local.max(old_end))? - offset;
    // When they went forward, what lies between the two is due by the old offset.
    let skipped = from + last.before;
    if skipped < new_start
        && let Some(skipped) = crontab.next_local(skipped).filter(|local| *local < new_start)
    {
        return Some(tick.min(skipped - last.before));
    }
    Some(tick)
}

impl Crontab {
    fn selects_every_hour(&self) -> bool {
        self.hours.count_ones() == 24
    }
}

/// The change of offset later than `from` and not later than `to`, which are at most a window apart.
fn change_between(zone: Tz, from: i64, to: i64) -> Option<Change> {
    let before = offset_at(zone, from);
    if offset_at(zone, to) == before {
        return None;
    }
    let (mut earlier, mut at) = (from, to);
    while at - earlier > 1 {
        let middle = earlier.midpoint(at);
        if offset_at(zone, middle) == before {
            earlier = middle;
        } else {
            at = middle;
        }
    }
    Some(Change { at, before, after: offset_at(zone, at) })
}

/// The zone's offset from UTC at an instant; the search stays far inside what chrono can represent.
fn offset_at(zone: Tz, at: i64) -> i64 {
    DateTime::from_timestamp(at, 0)
        .map_or(0, |at| i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}
