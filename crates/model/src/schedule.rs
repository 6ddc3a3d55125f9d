//! When an agent fires: pure functions from its timing and the moment to what is due.
//!
//! Everything here counts in *nominal* times, the moments that the crontab names. A tick fires at its nominal time plus
//! the agent's share of the jitter, which is the same for every tick of an agent: so ticks keep their order and their
//! distances, and what an edit of the jitter settles and plans does not overlap.

mod preview;
mod settle;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::crontab::{Crontab, CrontabErrors};
use crate::document::{Agent, Schedule, version_time};
use crate::id::AgentId;

pub use preview::{DaylightSaving, Upcoming, warnings};
pub use settle::{Due, Policy, Settled, Span};

/// The smallest difference between two times here.
pub const INSTANT: TimeDelta = TimeDelta::microseconds(1);

/// A tick that fires later than this after its fire time was missed: its run is one that catches up.
pub const ON_TIME: TimeDelta = TimeDelta::minutes(1);

/// All that decides when an agent fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    crontab: Crontab,
    zone: Tz,
    one_off: bool,
    start_time: Option<DateTime<Utc>>,
    end_time: Option<DateTime<Utc>>,
    offset: TimeDelta,
}

impl Timing {
    /// The timing of an agent of an organisation whose zone is `organisation_zone`.
    ///
    /// # Errors
    ///
    /// Its crontab cannot be read.
    pub fn of(agent: &Agent, organisation_zone: Tz) -> Result<Self, CrontabErrors> {
        Self::new(&agent.schedule, agent.id, organisation_zone)
    }

    /// The timing that a schedule gives this agent.
    ///
    /// # Errors
    ///
    /// Its crontab cannot be read.
    pub fn new(schedule: &Schedule, agent_id: AgentId, organisation_zone: Tz) -> Result<Self, CrontabErrors> {
        Ok(Self {
            crontab: Crontab::parse(&schedule.crontab)?,
            zone: schedule.timezone.unwrap_or(organisation_zone),
            one_off: schedule.one_off,
            start_time: schedule.start_time,
            end_time: schedule.end_time,
            offset: share_of_jitter(agent_id, schedule.jitter),
        })
    }

    /// The zone that its crontab is read in.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// When it fires, in English: `At 09:00, from Monday to Friday, by the clocks of Europe/Berlin.`
    #[must_use]
    pub fn describe(&self) -> String {
        let crontab = self.crontab.describe();
        format!("{}, by the clocks of {}.", crontab.trim_end_matches('.'), self.zone.name())
    }

    /// Whether it has one tick only.
    #[must_use]
    pub fn is_one_off(&self) -> bool {
        self.one_off
    }

    /// When the tick of this nominal time fires.
    #[must_use]
    pub fn fire_time(&self, nominal: DateTime<Utc>) -> DateTime<Utc> {
        nominal + self.offset
    }

    /// The newest nominal time that is due at `now`, be it a tick or not.
    #[must_use]
    pub fn due_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - self.offset
    }

    /// The first tick later than `after`, not before the start time and before the end time.
    #[must_use]
    pub fn first_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The start time itself may be a tick.
        let from = self.start_time.map_or(after, |start| after.max(start - INSTANT));
        let tick = self.crontab.next_after(self.zone, from)?;
        self.end_time.is_none_or(|end| tick < end).then_some(tick)
    }

    /// All ticks later than `after`, in order; of a one-off, one.
    pub fn ticks(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let timing = *self;
        let count = if timing.one_off { 1 } else { usize::MAX };
        std::iter::successors(timing.first_after(after), move |tick| timing.first_after(*tick)).take(count)
    }

    /// The first moment at or after `now` that the crontab allows: `now` itself within a minute that it matches.
    #[must_use]
    pub fn first_allowed(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        let moment = self.first_after(minute - INSTANT)?.max(now);
        self.end_time.is_none_or(|end| moment < end).then_some(moment)
    }
}

/// Where the planning of a new timing begins: when it was made, or where an older timing already got to. An edit that
/// the registry dates later than `now` begins now: what lies between would belong to neither timing.
#[must_use]
pub fn planning_start(timing_version: i64, fired_through: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    version_time(timing_version).min(now).max(fired_through)
}

/// An agent's share of the jitter, in whole milliseconds: spread evenly over agents, the same every time.
fn share_of_jitter(agent_id: AgentId, jitter: Duration) -> TimeDelta {
    let places = jitter.as_millis().saturating_add(1);
    let share = u128::from(scatter(agent_id.0.cast_unsigned())) % places;
    TimeDelta::milliseconds(i64::try_from(share).unwrap_or_default())
}

/// The finaliser of `SplitMix64`: neighbouring ids end far apart.
fn scatter(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
