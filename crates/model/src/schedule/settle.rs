//! What becomes of the ticks that are due: which run, and why the others do not.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use super::{INSTANT, ON_TIME, Timing};
use crate::document::{CatchUp, Schedule};
use crate::run::SkipReason;

/// What becomes of ticks that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Which of them run.
    pub catch_up: CatchUp,
    /// How far back a missed tick is made good.
    pub window: TimeDelta,
    /// Most missed ticks that are made good at once.
    pub count_max: usize,
    /// How late a tick may be and still count as not missed.
    pub on_time: TimeDelta,
    /// Why the others are skipped, where it is neither their number nor their age.
    pub missed_as: Option<SkipReason>,
}

impl Policy {
    /// Of ticks that were missed because no dispatcher was there.
    #[must_use]
    pub fn of(schedule: &Schedule, count_max: usize) -> Self {
        let window = TimeDelta::from_std(schedule.catch_up_window).unwrap_or(TimeDelta::MAX);
        Self { catch_up: schedule.catch_up, window, count_max, on_time: ON_TIME, missed_as: None }
    }

    /// Of ticks that passed during a pause which ended with this choice.
    #[must_use]
    pub fn after_pause(self, choice: Option<CatchUp>) -> Self {
        let catch_up = choice.unwrap_or(self.catch_up);
        Self { catch_up, on_time: TimeDelta::zero(), missed_as: Some(SkipReason::Paused), ..self }
    }

    /// Of ticks that waited for an earlier run to end: the newest runs, however late.
    #[must_use]
    pub fn after_overlap(self) -> Self {
        let missed_as = Some(SkipReason::Overlap);
        Self { catch_up: CatchUp::Latest, window: TimeDelta::MAX, missed_as, ..self }
    }
}

/// A tick that becomes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its nominal time.
    pub nominal: DateTime<Utc>,
    /// How many ticks before it became none.
    pub passed_over: u32,
}

/// Ticks from `from` up to, not including, `until`, by their nominal times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first of them.
    pub from: DateTime<Utc>,
    /// The end, itself outside.
    pub until: DateTime<Utc>,
    /// Why they have no run.
    pub reason: SkipReason,
}

impl Span {
    /// One tick alone.
    #[must_use]
    pub fn one(tick: DateTime<Utc>, reason: SkipReason) -> Self {
        Self { from: tick, until: tick + INSTANT, reason }
    }
}

/// What became of the ticks that were due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Those that become runs, in order.
    pub runs: Vec<Due>,
    /// Those that do not.
    pub skipped: Vec<Span>,
    /// The first tick that is not due yet.
    pub next: Option<DateTime<Utc>>,
}

impl Timing {
    /// Settles what is due: the tick planned for `due` and all after it, up to and including `through`.
    ///
    /// A one-off has one tick: it may be late, it is never too late, unless an operator resumed without catching up.
    #[must_use]
    pub fn settle(&self, due: DateTime<Utc>, through: DateTime<Utc>, policy: Policy) -> Settled {
        if due > through {
            return Settled { next: Some(due), ..Settled::default() };
        }
        if self.one_off {
            return match (policy.catch_up, policy.missed_as) {
                (CatchUp::None, Some(reason)) => {
                    Settled { skipped: vec![Span::one(due, reason)], ..Settled::default() }
                }
                _ => Settled { runs: vec![Due { nominal: due, passed_over: 0 }], ..Settled::default() },
            };
        }
        let mut skipped = Vec::new();
        let back = |reach| through.checked_sub_signed(reach).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let horizon = match policy.catch_up {
            CatchUp::None if policy.on_time.is_zero() => through + INSTANT,
            CatchUp::None => back(policy.on_time),
            CatchUp::Latest | CatchUp::All => back(policy.window),
        };
        let mut first = Some(due);
        if due < horizon {
            first = self.first_after(horizon - INSTANT);
            let until = first.filter(|tick| *tick <= through).unwrap_or(through + INSTANT);
            skipped.push(Span { from: due, until, reason: policy.missed_as.unwrap_or(SkipReason::TooLate) });
        }
        let Some(first) = first.filter(|tick| *tick <= through) else {
            return Settled { runs: Vec::new(), skipped, next: first };
        };

        let keep = if policy.catch_up == CatchUp::All { policy.count_max.max(1) } else { 1 };
        let (kept, dropped, next) = self.newest(first, through, keep);
        let oldest = kept.front().copied().unwrap_or(first);
        if oldest > first {
            let reason = match policy.catch_up {
                CatchUp::All => SkipReason::Limit,
                _ => policy.missed_as.unwrap_or(SkipReason::Coalesced),
            };
            skipped.push(Span { from: first, until: oldest, reason });
        }
        let due = |nominal: DateTime<Utc>| Due { nominal, passed_over: if nominal == oldest { dropped } else { 0 } };
        Settled { runs: kept.into_iter().map(due).collect(), skipped, next }
    }

    /// The newest `keep` ticks from `first` on and up to `through`, how many came before them, and the one after.
    fn newest(
        &self,
        first: DateTime<Utc>,
        through: DateTime<Utc>,
        keep: usize,
    ) -> (VecDeque<DateTime<Utc>>, u32, Option<DateTime<Utc>>) {
        let (mut kept, mut dropped, mut next) = (VecDeque::new(), 0_u32, Some(first));
        while let Some(tick) = next.filter(|tick| *tick <= through) {
            if kept.len() == keep {
                kept.pop_front();
                dropped = dropped.saturating_add(1);
            }
            kept.push_back(tick);
            next = self.first_after(tick);
        }
        (kept, dropped, next)
    }
}
