//! What follows once runs were judged and that is committed: it is counted, traced and announced.
//!
//! A crash before the announcement: what nobody says to hold is announced again. Count and trace are of what this
//! process did.

use std::collections::HashMap;

use model::id::RunId;
use model::run::RunReason;
use service_kit::traces::Place;

use crate::announce::{Announcement, announce};
use crate::context::Context;
use crate::error::DispatchError;
use crate::traces;

/// Tells of runs that were judged just now. `origins`: where the traces of their answers are, as far as known.
pub(crate) async fn tell(
    context: &Context,
    judged: Vec<Announcement>,
    origins: &HashMap<RunId, Place>,
) -> Result<(), DispatchError> {
    for ended in judged.iter().filter(|one| one.record.state.is_final()) {
        let reason = ended.record.result.as_ref().and_then(|result| result.reason).map_or("", RunReason::as_str);
        metrics::counter!("carillon_runs_ended_total", "state" => ended.record.state.as_str(), "reason" => reason)
            .increment(1);
    }
    traces::outcomes(context, &judged, origins);
    announce(context, judged).await
}
