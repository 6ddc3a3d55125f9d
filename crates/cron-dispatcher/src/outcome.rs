//! What is known of runs the moment that their end is committed: it is counted and traced.
//!
//! Before anything that may fail, as an announcement while the bus is away: that is made again, and no end is committed
//! twice.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use model::id::RunId;
use model::run::{Run, RunReason, RunState};
use service_kit::traces::Place;

use crate::context::Context;
use crate::traces;

/// A run that ended, without its bytes: of many, those can only be had in memory piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) run: Run,
    pub(crate) state: RunState,
    pub(crate) reason: Option<RunReason>,
    pub(crate) ended_at: DateTime<Utc>,
    /// How many bytes its request and its answer have.
    pub(crate) bytes: usize,
}

/// Notes runs that ended just now. `origins`: where the traces of their answers are, as far as known.
pub(crate) fn note(context: &Context, ended: &[Ended], origins: &HashMap<RunId, Place>) {
    for one in ended {
        let reason = one.reason.map_or("", RunReason::as_str);
        metrics::counter!("carillon_runs_ended_total", "state" => one.state.as_str(), "reason" => reason).increment(1);
    }
    traces::outcomes(context, ended, origins);
}
