//! When an agent fires: pure functions from its timing and the moment to what is due.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use chrono_tz::Tz;
use model::crontab::{Crontab, CrontabErrors};
use model::document::{Agent, version_time};
use model::run::SkipReason;

/// How far back a missed tick is still made good.
pub(crate) const CATCH_UP_WINDOW: TimeDelta = TimeDelta::days(1);

/// All that decides when an agent fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Timing {
    crontab: Crontab,
    zone: Tz,
    one_off: bool,
    start_time: Option<DateTime<Utc>>,
}

impl Timing {
    /// The timing of an agent of an organisation whose zone is `organisation_zone`.
    pub(crate) fn of(agent: &Agent, organisation_zone: Tz) -> Result<Self, CrontabErrors> {
        let schedule = &agent.schedule;
        Ok(Self {
            crontab: Crontab::parse(&schedule.crontab)?,
            zone: schedule.timezone.unwrap_or(organisation_zone),
            one_off: schedule.one_off,
            start_time: schedule.start_time,
        })
    }

    /// The first tick later than `after`, and not before the start time.
    pub(crate) fn first_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = match self.start_time {
            // The start time itself may be a tick.
            Some(start) => after.max(start - TimeDelta::microseconds(1)),
            None => after,
        };
        self.crontab.next_after(self.zone, from)
    }

    /// The first moment at or after `now` that the crontab allows: `now` itself within a minute that it matches.
    pub(crate) fn first_allowed(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        self.first_after(minute - TimeDelta::microseconds(1)).map(|moment| moment.max(now))
    }

    /// Settles what is due: the tick planned for `due` and all after it, up to and including `now`.
    ///
    /// The newest tick runs. The ticks before it are coalesced into it, and those missed for longer than
    /// [`CATCH_UP_WINDOW`] are too late. A one-off has one tick: it may be late, it is never too late.
    pub(crate) fn settle(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> Settled {
        if self.one_off {
            return Settled { run: Some(due), skipped: Vec::new(), next: None };
        }
        let mut skipped = Vec::new();
        let mut first = Some(due);
        let horizon = now - CATCH_UP_WINDOW;
        if due < horizon {
            first = self.crontab.next_after(self.zone, horizon - TimeDelta::microseconds(1));
            let until = first.unwrap_or(now).min(now + TimeDelta::microseconds(1));
            skipped.push(Span { from: due, until, reason: SkipReason::TooLate });
        }
        let Some(first) = first.filter(|tick| *tick <= now) else {
            return Settled { run: None, skipped, next: first };
        };

        let mut newest = first;
        let mut next = self.crontab.next_after(self.zone, newest);
        while let Some(tick) = next.filter(|tick| *tick <= now) {
            newest = tick;
            next = self.crontab.next_after(self.zone, newest);
        }
        if newest > first {
            skipped.push(Span { from: first, until: newest, reason: SkipReason::Coalesced });
        }
        Settled { run: Some(newest), skipped, next }
    }
}

/// Where the planning of a new timing begins: when it was made, or where an older timing already got to.
pub(crate) fn planning_start(timing_version: i64, fired_through: DateTime<Utc>) -> DateTime<Utc> {
    version_time(timing_version).max(fired_through)
}

/// What became of the ticks that were due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The tick that becomes a run.
    pub(crate) run: Option<DateTime<Utc>>,
    /// Those that do not.
    pub(crate) skipped: Vec<Span>,
    /// The first tick that is not due yet.
    pub(crate) next: Option<DateTime<Utc>>,
}

/// Ticks from `from` up to, not including, `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    pub(crate) reason: SkipReason,
}

#[cfg(test)]
mod tests {
    use model::crontab::CrontabFields;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn timing(minute: &str, hour: &str) -> Timing {
        let fields = CrontabFields { minute: minute.into(), hour: hour.into(), ..CrontabFields::default() };
        Timing { crontab: Crontab::parse(&fields).unwrap(), zone: Tz::UTC, one_off: false, start_time: None }
    }

    #[test]
    fn a_tick_on_time_runs_and_the_next_is_planned() {
        let now = at("2026-01-01T10:00:00.250Z");
        let settled = timing("*/5", "*").settle(at("2026-01-01T10:00:00Z"), now);
        assert_eq!(settled.run, Some(at("2026-01-01T10:00:00Z")));
        assert_eq!(settled.skipped, []);
        assert_eq!(settled.next, Some(at("2026-01-01T10:05:00Z")));
    }

    #[test]
    fn missed_ticks_are_coalesced_into_the_newest() {
        let settled = timing("*/5", "*").settle(at("2026-01-01T10:00:00Z"), at("2026-01-01T10:17:00Z"));
        assert_eq!(settled.run, Some(at("2026-01-01T10:15:00Z")));
        let span =
            Span { from: at("2026-01-01T10:00:00Z"), until: at("2026-01-01T10:15:00Z"), reason: SkipReason::Coalesced };
        assert_eq!(settled.skipped, [span]);
        assert_eq!(settled.next, Some(at("2026-01-01T10:20:00Z")));
    }

    #[test]
    fn ticks_missed_for_longer_than_a_day_are_too_late() {
        let settled = timing("0", "9").settle(at("2026-01-01T09:00:00Z"), at("2026-01-05T08:00:00Z"));
        assert_eq!(settled.run, Some(at("2026-01-04T09:00:00Z")));
        let span =
            Span { from: at("2026-01-01T09:00:00Z"), until: at("2026-01-04T09:00:00Z"), reason: SkipReason::TooLate };
        assert_eq!(settled.skipped, [span]);
        assert_eq!(settled.next, Some(at("2026-01-05T09:00:00Z")));
    }

    #[test]
    fn a_yearly_tick_missed_for_two_days_is_too_late_and_next_year_is_planned() {
        let fields = CrontabFields {
            minute: "0".into(),
            hour: "0".into(),
            day_of_month: "1".into(),
            month_of_year: "1".into(),
            ..CrontabFields::default()
        };
        let yearly = Timing { crontab: Crontab::parse(&fields).unwrap(), ..timing("0", "0") };
        let settled = yearly.settle(at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:00Z"));
        assert_eq!(settled.run, None);
        assert_eq!(settled.next, Some(at("2027-01-01T00:00:00Z")));
        assert_eq!(settled.skipped[0].until, at("2026-01-03T00:00:00.000001Z"));
    }

    #[test]
    fn a_one_off_is_late_but_never_too_late_and_has_no_next() {
        let one_off = Timing { one_off: true, ..timing("*", "*") };
        let settled = one_off.settle(at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        assert_eq!(settled, Settled { run: Some(at("2026-01-01T00:00:00Z")), skipped: vec![], next: None });
    }

    #[test]
    fn nothing_fires_before_the_start_time_which_may_be_a_tick_itself() {
        let start = at("2026-02-01T09:00:00Z");
        let timing = Timing { start_time: Some(start), ..timing("0", "9") };
        assert_eq!(timing.first_after(at("2026-01-01T00:00:00Z")), Some(start));
        assert_eq!(timing.first_after(start), Some(at("2026-02-02T09:00:00Z")));
    }

    #[test]
    fn a_follower_may_fire_at_once_within_a_minute_that_its_crontab_matches() {
        let now = at("2026-01-01T09:00:30Z");
        assert_eq!(timing("*", "*").first_allowed(now), Some(now));
        assert_eq!(timing("0", "9").first_allowed(now), Some(now));
        assert_eq!(timing("5", "9").first_allowed(now), Some(at("2026-01-01T09:05:00Z")));
        let start = at("2026-01-02T00:00:00Z");
        let later = Timing { start_time: Some(start), ..timing("*", "*") };
        assert_eq!(later.first_allowed(now), Some(start));
    }

    proptest! {
        /// However late the dispatcher looks, each tick up to then is the run or in exactly one span.
        #[test]
        fn every_due_tick_is_the_run_or_in_one_span(step in 1_u32..59, late_minutes in 0_i64..4_000) {
            let timing = timing(&format!("*/{step}"), "*/3");
            let due = timing.first_after(at("2026-03-28T00:00:00Z")).unwrap();
            let now = due + TimeDelta::minutes(late_minutes);
            let settled = timing.settle(due, now);

            let mut tick = due;
            while tick <= now {
                let spans = settled.skipped.iter().filter(|span| span.from <= tick && tick < span.until).count();
                let ran = usize::from(settled.run == Some(tick));
                prop_assert_eq!(spans + ran, 1, "{}", tick);
                tick = timing.first_after(tick).unwrap();
            }
            prop_assert_eq!(settled.next, Some(tick));
        }
    }
}
