//! What was fired, for those who are to hear of it once it is committed.

use chrono::{DateTime, TimeDelta, Utc};
use model::id::RunId;
use model::run::{Run, ScheduleRecord};

use crate::outcome::Ended;
use crate::store::queue::Request;
use crate::store::ticks::Skipped;

/// What one transaction fired.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    /// The runs, and how late each was when it was made.
    pub(crate) runs: Vec<(Run, TimeDelta)>,
    /// What is to be sent of those that entered the window at once, with the moment before they did.
    pub(crate) requests: Vec<(DateTime<Utc>, Vec<Request>)>,
    /// Spans of skipped ticks.
    pub(crate) skipped: Vec<Skipped>,
    /// Where schedules stand of which no run's record says so.
    pub(crate) schedules: Vec<ScheduleRecord>,
    /// Earlier runs that made way, for the runners to stop.
    pub(crate) cancelled: Vec<RunId>,
    /// Which of these ended by it, to be announced.
    pub(crate) ended: Vec<Ended>,
}

impl Fired {
    /// How many bytes are to be sent.
    pub(crate) fn request_bytes(&self) -> usize {
        self.requests.iter().flat_map(|(_, requests)| requests).map(|(_, body)| body.len()).sum()
    }

    /// Adds what another transaction fired.
    pub(crate) fn join(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.requests.extend(other.requests);
        self.skipped.extend(other.skipped);
        self.schedules.extend(other.schedules);
        self.cancelled.extend(other.cancelled);
        self.ended.extend(other.ended);
    }
}
