//! `[dispatcher]`: how the dispatcher conducts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::config::ConfigError;

/// How the dispatcher conducts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            window: 2_000,
            fire_batch: 500,
            overdue_ms: 5_000,
            lost_requests_max: 3,
            verdict_grace_seconds: 10,
            ticks_days: 90,
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
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(ConfigError::setting(key, "must be at least 1, got 0"));
            }
        }
        if self.overdue_ms < 100 {
            let problem = format!("must be at least 100, got {}", self.overdue_ms);
            return Err(ConfigError::setting("dispatcher.overdue_ms", problem));
        }
        Ok(())
    }

    /// When something sent for the `sends`th time is overdue.
    pub(crate) fn overdue(&self, sends: i32) -> Duration {
        let doublings = u32::try_from(sends.saturating_sub(1)).unwrap_or_default().min(6);
        Duration::from_millis(self.overdue_ms).saturating_mul(1 << doublings)
    }

    pub(crate) fn verdict_grace(&self) -> Duration {
        Duration::from_secs(self.verdict_grace_seconds)
    }
}
