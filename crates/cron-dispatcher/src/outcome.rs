//! What is known of runs the moment that their end is committed: it is counted and traced.
//!
//! Before anything that may fail, as an announcement while the bus is away: that is made again, and no end is committed
//! twice.

use std::collections::HashMap;

use model::id::RunId;
use model::run::RunReason;
use service_kit::traces::Place;

use crate::announce::Announcement;
use crate::context::Context;
use crate::traces;

/// Notes runs that were judged just now. `origins`: where the traces of their answers are, as far as known.
pub(crate) fn note(context: &Context, judged: &[Announcement], origins: &HashMap<RunId, Place>) {
    for ended in judged.iter().filter(|one| one.record.state.is_final()) {
        let reason = ended.record.result.as_ref().and_then(|result| result.reason).map_or("", RunReason::as_str);
        metrics::counter!("carillon_runs_ended_total", "state" => ended.record.state.as_str(), "reason" => reason)
            .increment(1);
    }
    traces::outcomes(context, judged, origins);
}
