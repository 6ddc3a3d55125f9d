//! When a delivery is tried again.

use std::time::Duration;

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

/// How long to wait after so many failed delivery attempts; none: that was the last one.
///
/// `jitter` is a random number from 0 to 1.
#[must_use]
pub fn delay_after(failures: u32, jitter: f64) -> Option<Duration> {
    let delay = DELAYS.get(usize::try_from(failures).ok()?)?;
    Some(delay.mul_f64(1.0 + JITTER_MAX * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_schedule_takes_75_hours_and_36_minutes() {
        let total: Duration = DELAYS.iter().sum();
        assert_eq!(total, Duration::from_secs(75 * HOUR + 35 * MINUTE + 35));
    }

    #[test]
    fn the_eleventh_failure_is_the_last() {
        assert!(delay_after(10, 1.0).is_some());
        assert_eq!(delay_after(11, 0.0), None);
        assert_eq!(delay_after(u32::MAX, 0.0), None);
    }

    proptest! {
        #[test]
        fn jitter_only_adds_and_at_most_a_tenth(failures in 0..11_u32, jitter in 0.0..=1.0_f64) {
            let delay = delay_after(failures, jitter).unwrap();
            let plain = delay_after(failures, 0.0).unwrap();
            prop_assert!(delay >= plain && delay <= plain.mul_f64(1.1));
        }
    }
}
