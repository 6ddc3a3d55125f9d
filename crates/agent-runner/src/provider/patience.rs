//! When to ask again after a failure that may pass: later each time, and only while an answer would still be of use.
//!
//! Not so many times, but as long as the run may last: a run is not worth less because its provider was away for five
//! minutes. A wait that would outlast the deadline ends the run at once, with the reason instead of a mere time-out.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::clock::Clock;

use super::failed::Failed;
use super::{AskError, Question};
use crate::run_log::RunLog;

/// The wait after the first failure, before jitter; it doubles each time.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait of our own, before jitter.
const LONGEST: Duration = Duration::from_secs(60);

/// The failures of one run, and how long to wait after each.
pub(super) struct Patience<'a> {
    clock: &'a Clock,
    kind: &'static str,
    log: RunLog,
    deadline: DateTime<Utc>,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(clock: &'a Clock, kind: &'static str, question: &Question) -> Self {
        Self { clock, kind, log: question.log.clone(), deadline: question.deadline, failures: 0 }
    }

    /// Waits until it is time to ask again.
    ///
    /// # Errors
    ///
    /// There is no use in asking again.
    pub(super) async fn wait_after(&mut self, failed: Failed) -> Result<(), AskError> {
        self.count(if failed.again_after.is_some() { "transient" } else { "permanent" });
        let Some(at_least) = failed.again_after else { return Err(failed.into()) };
        self.failures += 1;
        let wait = at_least.saturating_add(delay_after(self.failures, rand::random()));
        let seconds = wait.as_secs_f64();
        let again_at = TimeDelta::from_std(wait).ok().and_then(|wait| self.clock.now().checked_add_signed(wait));
        let Some(again_at) = again_at.filter(|again_at| *again_at < self.deadline) else {
            let why = format!("asking again in {seconds:.1} s would be after the run's deadline");
            return Err(AskError(format!("{}; {why} (failures so far: {})", failed.text, self.failures)));
        };
        self.log.line(format_args!("{}; asking again in {seconds:.1} s", failed.text));
        self.clock.sleep_until(again_at).await;
        Ok(())
    }

    /// There is an answer.
    pub(super) fn answered(&self) {
        self.count("answered");
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("carillon_provider_requests_total", "provider" => self.kind, "outcome" => outcome)
            .increment(1);
    }
}

/// Our own wait after so many failures; `jitter`, from 0 to 1, keeps those that failed together from coming back
/// together.
fn delay_after(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let longest = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    longest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_jitter_takes_at_most_half() {
        let longest = |failures| delay_after(failures, 1.0).as_secs_f64();
        assert_eq!([1, 2, 3, 6, 7, 8, 100].map(longest), [1.0, 2.0, 4.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(delay_after(3, 0.0), Duration::from_secs(2));
    }
}
