//! The clock: the one place that asks the host for the time.
//!
//! Everything else is given a [`Clock`] and asks that, so that tests can decide what time it is and a test stack can
//! let a day pass in minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tokio::sync::watch;

use crate::config::ConfigError;

/// The longest stretch slept in one go, so that a corrected host clock is noticed in a long wait.
const NAP_MAX: Duration = Duration::from_secs(30);

/// The variable that gives a test build its clock.
const TEST_CLOCK: &str = "CARILLON_TEST_CLOCK";

/// Where a microservice takes the time from; clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    /// The host's time plus an offset in microseconds.
    Host(Arc<AtomicI64>),
    /// Host time since `anchor`, stretched by `rate`.
    #[cfg(feature = "test-clock")]
    Scaled { anchor: DateTime<Utc>, rate: f64 },
    /// Stands still until advanced.
    Manual(Arc<watch::Sender<DateTime<Utc>>>),
}

impl Clock {
    /// The clock of the host.
    #[must_use]
    pub fn host() -> Self {
        Self(Source::Host(Arc::default()))
    }

    /// A clock that stands still at `start` until [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(to_microseconds(start)))))
    }

    /// A clock that shows `anchor` when the host does and runs `rate` times as fast from there on.
    #[cfg(feature = "test-clock")]
    #[must_use]
    pub fn scaled(anchor: DateTime<Utc>, rate: f64) -> Self {
        Self(Source::Scaled { anchor, rate })
    }

    /// The clock that a process is to use: the host's. A test build may be given another by the variable
    /// `CARILLON_TEST_CLOCK`, as `2026-01-01T00:00:00Z,20`: an anchor, and the rate at which time runs since.
    ///
    /// # Errors
    ///
    /// The variable is set although this is no test build, or says something else.
    pub fn of_process(environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        match environment.into_iter().find(|(name, _)| name == TEST_CLOCK) {
            Some((name, value)) => Self::of_test(&name, &value),
            None => Ok(Self::host()),
        }
    }

    #[cfg(feature = "test-clock")]
    fn of_test(name: &str, value: &str) -> Result<Self, ConfigError> {
        let parts = value.split_once(',').and_then(|(anchor, rate)| Some((anchor.parse().ok()?, rate.parse().ok()?)));
        let wrong = || ConfigError::setting(name, format_args!("must be <RFC 3339>,<rate>, got `{value}`"));
        parts.map(|(anchor, rate)| Self::scaled(anchor, rate)).ok_or_else(wrong)
    }

    #[cfg(not(feature = "test-clock"))]
    fn of_test(name: &str, _: &str) -> Result<Self, ConfigError> {
        Err(ConfigError::setting(name, "must not be set: only a test build may run on another clock than the host's"))
    }

    /// The time, in whole microseconds: what both databases can store.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::Host(offset) => {
                to_microseconds(host_now() + TimeDelta::microseconds(offset.load(Ordering::Relaxed)))
            }
            #[cfg(feature = "test-clock")]
            Source::Scaled { anchor, rate } => to_microseconds(stretched(*anchor, *rate, host_now())),
            Source::Manual(time) => *time.borrow(),
        }
    }

    /// How long to wait, in real time, until this clock shows `instant`; zero when it already does.
    ///
    /// A manual clock answers as if it ran at the host's pace: with one, wait by [`sleep_until`](Self::sleep_until).
    #[must_use]
    pub fn until(&self, instant: DateTime<Utc>) -> Duration {
        let wait = (instant - self.now()).to_std().unwrap_or(Duration::ZERO);
        match &self.0 {
            #[cfg(feature = "test-clock")]
            Source::Scaled { rate, .. } => Duration::try_from_secs_f64(wait.as_secs_f64() / rate).unwrap_or(NAP_MAX),
            _ => wait,
        }
    }

    /// Waits until this clock shows `duration` more than now.
    pub async fn sleep(&self, duration: Duration) {
        let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        self.sleep_until(self.now().checked_add_signed(duration).unwrap_or(DateTime::<Utc>::MAX_UTC)).await;
    }

    /// Waits until this clock shows `instant`, following corrections on the way.
    pub async fn sleep_until(&self, instant: DateTime<Utc>) {
        if let Source::Manual(time) = &self.0 {
            // An error would mean that the sender is gone; this clock itself holds it.
            let _ = time.subscribe().wait_for(|now| *now >= instant).await;
            return;
        }
        loop {
            let wait = self.until(instant);
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(NAP_MAX)).await;
        }
    }

    /// Moves a manual clock forward and wakes who slept until then; any other clock runs by itself and stays.
    pub fn advance(&self, by: TimeDelta) {
        if let Source::Manual(time) = &self.0 {
            time.send_modify(|now| *now = to_microseconds(*now + by));
        }
    }

    /// Whether this is the host's clock, which a correction makes sense for.
    #[must_use]
    pub fn is_host(&self) -> bool {
        matches!(self.0, Source::Host(_))
    }

    /// Corrects the host's clock by `offset`, for this clock and its clones; any other clock stays.
    pub fn set_offset(&self, offset: TimeDelta) {
        if let Source::Host(correction) = &self.0 {
            correction.store(offset.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The correction that is in force.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        match &self.0 {
            Source::Host(correction) => TimeDelta::microseconds(correction.load(Ordering::Relaxed)),
            _ => TimeDelta::zero(),
        }
    }
}

/// `time` without what is finer than a microsecond.
pub(crate) fn to_microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(time)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
fn host_now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(any(test, feature = "test-clock"))]
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and no test runs for 292,000 years")]
fn stretched(anchor: DateTime<Utc>, rate: f64, host: DateTime<Utc>) -> DateTime<Utc> {
    let elapsed = (host - anchor).as_seconds_f64() * rate;
    anchor + TimeDelta::microseconds((elapsed * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_manual_clock_stands_still_until_it_is_advanced() {
        let clock = Clock::manual(noon());
        assert_eq!(clock.now(), noon());
        clock.clone().advance(TimeDelta::seconds(90));
        assert_eq!(clock.now(), noon() + TimeDelta::seconds(90));
        assert_eq!(clock.until(noon() + TimeDelta::seconds(100)), Duration::from_secs(10));
        assert_eq!(clock.until(noon()), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_sleeps_on_a_manual_clock_wakes_when_it_is_advanced() {
        let clock = Clock::manual(noon());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(noon() + TimeDelta::hours(6)).await;
                clock.now()
            }
        });
        clock.advance(TimeDelta::hours(5));
        clock.advance(TimeDelta::hours(2));
        assert_eq!(sleeper.await.unwrap(), noon() + TimeDelta::hours(7));
    }

    #[test]
    fn the_time_has_no_more_than_microseconds() {
        assert_eq!(Clock::host().now().timestamp_subsec_nanos() % 1_000, 0);
        let before_1970: DateTime<Utc> = "1969-12-31T23:59:59.123456789Z".parse().unwrap();
        assert_eq!(to_microseconds(before_1970).timestamp_subsec_nanos(), 123_456_000);
    }

    #[test]
    fn a_correction_reaches_every_clone() {
        let clock = Clock::host();
        let clone = clock.clone();
        clock.set_offset(TimeDelta::hours(-3));
        assert_eq!(clone.offset(), TimeDelta::hours(-3));
        assert!(clone.now() < Clock::host().now() - TimeDelta::hours(2));
    }

    #[test]
    fn scaled_time_starts_at_its_anchor_and_runs_at_its_rate() {
        assert_eq!(stretched(noon(), 60.0, noon()), noon());
        assert_eq!(stretched(noon(), 60.0, noon() + TimeDelta::minutes(2)), noon() + TimeDelta::hours(2));
    }
}
