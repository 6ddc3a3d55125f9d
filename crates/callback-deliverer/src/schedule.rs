//! When a delivery is tried again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// How long to wait before the first delivery attempt, the second, and so on: 75.6 hours in all.
pub const DELAYS: [Duration; 11] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// Added to a delay at most, as a share of it, so that what failed together does not come back together.
pub const JITTER_MAX: f64 = 0.1;

/// What is known of a delivery when one of its delivery attempts has failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// How many failed since the round began, this one included.
    pub failures: u32,
    /// When the round began: when the delivery was made, or replayed.
    pub round_began_at: DateTime<Utc>,
    /// When this one failed.
    pub failed_at: DateTime<Utc>,
    /// How long the receiver asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// When to try again; none: that was the last time.
///
/// `jitter` is a random number from 0 to 1. What the receiver asks for is never undercut, and counts up to the moment
/// of the last delivery attempt that the schedule has: no receiver can keep a delivery waiting for ever.
#[must_use]
pub fn next_attempt_at(failure: Failure, jitter: f64) -> Option<DateTime<Utc>> {
    let Failure { failures, round_began_at, failed_at, retry_after } = failure;
    let scheduled = failed_at + delay_after(failures, jitter)?;
    let last = round_began_at + DELAYS.iter().sum::<Duration>();
    let asked = retry_after.and_then(|wait| failed_at.checked_add_signed(TimeDelta::from_std(wait).ok()?));
    // Of a wait that no calendar holds, what counts is its limit.
    let asked = if retry_after.is_some() { asked.unwrap_or(last) } else { scheduled };
    Some(scheduled.max(asked.min(last)))
}

/// How long `Retry-After` says to wait: seconds, or a date as HTTP writes it. What is past is no wait.
#[must_use]
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    Some((date - now).to_std().unwrap_or(Duration::ZERO))
}

fn delay_after(failures: u32, jitter: f64) -> Option<Duration> {
    let delay = DELAYS.get(usize::try_from(failures).ok()?)?;
    Some(delay.mul_f64(1.0 + JITTER_MAX * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noon() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn failure(failures: u32, retry_after: Option<Duration>) -> Failure {
        Failure { failures, round_began_at: noon(), failed_at: noon(), retry_after }
    }

    #[test]
    fn the_whole_schedule_takes_75_hours_and_36_minutes() {
        let total: Duration = DELAYS.iter().sum();
        assert_eq!(total, Duration::from_secs(75 * HOUR + 35 * MINUTE + 35));
    }

    #[test]
    fn the_eleventh_failure_is_the_last_whatever_the_receiver_asks() {
        assert!(next_attempt_at(failure(10, None), 1.0).is_some());
        assert_eq!(next_attempt_at(failure(11, Some(Duration::from_secs(5))), 0.0), None);
        assert_eq!(next_attempt_at(failure(u32::MAX, None), 0.0), None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_every_form_of_date() {
        let read = |value: &str| retry_after(value, noon());
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for date in ["Sun, 01 Mar 2026 12:01:00 GMT", "Sunday, 01-Mar-26 12:01:00 GMT", "Sun Mar  1 12:01:00 2026"] {
            assert_eq!(read(date), Some(Duration::from_secs(60)), "{date}");
        }
        assert_eq!(read("Sun, 01 Mar 2026 11:00:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "-5", "1.5", "soon", "Sun, 31 Feb 2026 12:00:00 GMT", "+5", "5 s"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_a_receiver_asks_for_ends_with_the_schedule() {
        let end = noon() + DELAYS.iter().sum::<Duration>();
        for wait in [Duration::from_secs(400 * HOUR), Duration::from_secs(u64::MAX)] {
            assert_eq!(next_attempt_at(failure(1, Some(wait)), 1.0), Some(end));
        }
        // After that, the schedule's own delays go on.
        let late = Failure { failed_at: end, failures: 3, ..failure(3, Some(Duration::from_secs(HOUR))) };
        assert_eq!(next_attempt_at(late, 0.0), Some(end + DELAYS[3]));
    }

    proptest! {
        #[test]
        fn jitter_only_adds_and_at_most_a_tenth(failures in 0..11_u32, jitter in 0.0..=1.0_f64) {
            let delay = delay_after(failures, jitter).unwrap();
            let plain = delay_after(failures, 0.0).unwrap();
            prop_assert!(delay >= plain && delay <= plain.mul_f64(1.1));
        }

        #[test]
        fn neither_the_schedule_nor_the_receiver_is_undercut(
            failures in 1..11_u32, jitter in 0.0..=1.0_f64, wait in 0..500_000_u64, passed in 0..300_000_i64,
        ) {
            let failed_at = noon() + TimeDelta::seconds(passed);
            let failure = Failure { failed_at, ..failure(failures, Some(Duration::from_secs(wait))) };
            let next = next_attempt_at(failure, jitter).unwrap();
            let last = noon() + DELAYS.iter().sum::<Duration>();
            prop_assert!(next >= failed_at + delay_after(failures, 0.0).unwrap());
            prop_assert!(next >= failed_at + Duration::from_secs(wait) || next >= last);
            prop_assert!(next <= (failed_at + delay_after(failures, 1.0).unwrap()).max(last));
        }
    }
}
