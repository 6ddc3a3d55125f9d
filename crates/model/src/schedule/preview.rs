//! What a schedule will do, for people who look before it does.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::Timing;
use crate::crontab::Crontab;
use crate::word::words;

/// A schedule with more ticks on one day is warned of.
const RUNS_A_DAY_MAX: usize = 96;

words! {
    /// What a change of the clocks does to a tick.
    DaylightSaving {
        /// Its local time does not occur: it fires later by the length of the gap.
        Shifted = "shifted",
        /// Its local time occurs twice.
        Repeated = "repeated",
    }
}

/// A tick to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcoming {
    /// The moment that the crontab names.
    pub nominal: DateTime<Utc>,
    /// When it fires.
    pub fire_time: DateTime<Utc>,
    /// What a change of the clocks does to it.
    pub daylight_saving: Option<DaylightSaving>,
}

impl Timing {
    /// The ticks later than `after`, and what the clocks do to them.
    pub fn upcoming(&self, after: DateTime<Utc>) -> impl Iterator<Item = Upcoming> + use<> {
        let timing = *self;
        timing.ticks(after).map(move |nominal| Upcoming {
            nominal,
            fire_time: timing.fire_time(nominal),
            daylight_saving: daylight_saving(&timing.crontab, timing.zone, nominal),
        })
    }
}

fn daylight_saving(crontab: &Crontab, zone: Tz, tick: DateTime<Utc>) -> Option<DaylightSaving> {
    let local = tick.with_timezone(&zone).naive_local();
    if !crontab.matches_local(local) {
        return Some(DaylightSaving::Shifted);
    }
    matches!(zone.from_local_datetime(&local), chrono::LocalResult::Ambiguous(..)).then_some(DaylightSaving::Repeated)
}

/// What its owner may not have meant, in English.
#[must_use]
pub fn warnings(timing: &Timing, after: DateTime<Utc>) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(first) = timing.first_after(after) else {
        return vec!["Never fires: there is no such moment between its start and its end.".to_owned()];
    };
    if timing.crontab.restricts_both_days() {
        let both = "Day of month and day of week must both match: it fires only on days that are in both.";
        warnings.push(both.to_owned());
    }
    let a_day = timing.ticks(first - super::INSTANT).take_while(|tick| *tick < first + TimeDelta::days(1));
    let a_day = a_day.take(1_441).count();
    if a_day > RUNS_A_DAY_MAX {
        warnings.push(format!("Fires {a_day} times a day."));
    }
    if first - after > TimeDelta::days(366) {
        warnings
            .push(format!("Fires for the first time on {}.", first.with_timezone(&timing.zone).format("%-d %B %Y")));
    }
    warnings
}
