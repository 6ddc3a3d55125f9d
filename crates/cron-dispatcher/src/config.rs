//! `[dispatcher]`: how the dispatcher conducts.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::ConfigError;

/// A runner takes what is requested less than two seconds after a cancel for what was cancelled.
const RETRY_DELAY_SECONDS_MIN: u32 = 3;

/// A hundred years: times beyond are none that every database knows.
const TICKS_DAYS_MAX: u64 = 36_500;

const OVERDUE_MS_MIN: u64 = 100;
/// An hour, and a day: who waits longer would wait for ever.
const OVERDUE_MS_MAX: u64 = 3_600_000;
const VERDICT_GRACE_SECONDS_MAX: u64 = 86_400;

/// The longest that a failed run waits to be tried again.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(600);

/// How the dispatcher conducts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DispatcherConfig {
    /// Most runs that are requested and not started.
    pub window: u32,
    /// Most schedules fired in one transaction.
    pub fire_batch: u32,
    /// After so many milliseconds something sent and not answered is overdue; doubles each time it is sent again.
    pub overdue_ms: u64,
    /// How often a request may be lost before its run ends as `lost`.
    pub lost_requests_max: u32,
    /// Seconds beyond a run's own time-out before the dispatcher gives its verdict.
    pub verdict_grace_seconds: u64,
    /// Days that ticks are kept.
    pub ticks_days: u32,
    /// Most missed ticks of an agent that are made good at once.
    pub catch_up_max: u32,
    /// Most runs of an organisation that wait; ticks beyond are skipped.
    pub backlog_max: u32,
    /// Seconds until a failed run is tried again; doubles with each attempt.
    pub retry_delay_seconds: u32,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            window: 2_000,
            fire_batch: 1_000,
            overdue_ms: 5_000,
            lost_requests_max: 3,
            verdict_grace_seconds: 10,
            ticks_days: 90,
            catch_up_max: 100,
            backlog_max: 500_000,
            retry_delay_seconds: 10,
        }
    }
}

impl DispatcherConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// Names the key and the value that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("dispatcher.window", self.window),
            ("dispatcher.fire_batch", self.fire_batch),
            ("dispatcher.ticks_days", self.ticks_days),
            ("dispatcher.catch_up_max", self.catch_up_max),
            ("dispatcher.backlog_max", self.backlog_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(ConfigError::setting(key, "must be at least 1, got 0"));
            }
        }
        if self.retry_delay_seconds < RETRY_DELAY_SECONDS_MIN {
            let problem = format!("must be at least {RETRY_DELAY_SECONDS_MIN}, got {}", self.retry_delay_seconds);
            return Err(ConfigError::setting("dispatcher.retry_delay_seconds", problem));
        }
        if self.overdue_ms < OVERDUE_MS_MIN {
            let problem = format!("must be at least {OVERDUE_MS_MIN}, got {}", self.overdue_ms);
            return Err(ConfigError::setting("dispatcher.overdue_ms", problem));
        }
        let bounded = [
            ("dispatcher.ticks_days", u64::from(self.ticks_days), TICKS_DAYS_MAX),
            ("dispatcher.overdue_ms", self.overdue_ms, OVERDUE_MS_MAX),
            ("dispatcher.verdict_grace_seconds", self.verdict_grace_seconds, VERDICT_GRACE_SECONDS_MAX),
        ];
        for (key, value, most) in bounded {
            if value > most {
                return Err(ConfigError::setting(key, format!("must be at most {most}, got {value}")));
            }
        }
        Ok(())
    }

    /// When something sent for the `sends`th time is overdue.
    pub(crate) fn overdue(&self, sends: i32) -> Duration {
        let doublings = u32::try_from(sends.saturating_sub(1)).unwrap_or_default().min(6);
        Duration::from_millis(self.overdue_ms).saturating_mul(1 << doublings)
    }

    /// How long after the failure of its `run_attempt`th attempt a run is tried again.
    pub(crate) fn retry_delay(&self, run_attempt: u32) -> Duration {
        let delay = Duration::from_secs(self.retry_delay_seconds.into());
        delay.saturating_mul(1 << run_attempt.saturating_sub(1).min(10)).min(RETRY_DELAY_MAX)
    }

    pub(crate) fn verdict_grace(&self) -> Duration {
        Duration::from_secs(self.verdict_grace_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_time_can_hold_is_refused() {
        let refused = |config: DispatcherConfig| config.validate().unwrap_err().to_string();
        let usual = DispatcherConfig::default;
        usual().validate().unwrap();
        let days = refused(DispatcherConfig { ticks_days: 99_999_999, ..usual() });
        assert!(days.contains("dispatcher.ticks_days") && days.contains("at most 36500, got 99999999"), "{days}");
        refused(DispatcherConfig { overdue_ms: u64::MAX, ..usual() });
        refused(DispatcherConfig { verdict_grace_seconds: u64::MAX, ..usual() });
        refused(DispatcherConfig { ticks_days: 0, ..usual() });
        let longest =
            DispatcherConfig { ticks_days: 36_500, overdue_ms: 3_600_000, verdict_grace_seconds: 86_400, ..usual() };
        longest.validate().unwrap();
    }
}
