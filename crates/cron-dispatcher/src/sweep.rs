//! The sweep: forgets what is older than its retention, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use service_kit::sweep::ROWS_MAX;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::DispatchError;
use crate::store::ticks::Retained;
use crate::store::{documents, history, runs, ticks, triggers};

/// How often the sweep looks.
const ROUND: Duration = Duration::from_secs(60);
/// How long a tombstone is kept, so that a straggler cannot bring a deleted document back.
const TOMBSTONES_KEPT: TimeDelta = TimeDelta::days(30);
/// How long a trigger may be repeated, with an hour for the clocks of those who ask.
const TRIGGERS_KEPT: TimeDelta = TimeDelta::hours(25);

/// Sweeps every minute, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    service_kit::sweep::run(ROUND, context.clock.clone(), shutdown, || sweep(&context)).await
}

/// Returns the most rows that were forgotten of one table.
async fn sweep(context: &Context) -> Result<usize, DispatchError> {
    let now = context.clock.now();
    let limit = i64::from(ROWS_MAX);
    let default_days = context.config.ticks_days;
    context
        .db
        .write(move |conn| {
            let before = |days: u32| now - TimeDelta::days(i64::from(days));
            let own = documents::ticks_days(conn)?;
            let longest = own.iter().map(|(_, days)| *days).chain([default_days]).max().unwrap_or(default_days);
            let runs = runs::sweep(conn, before(longest), limit)?;
            let keepers: Vec<String> = own.iter().map(|(organisation, _)| organisation.clone()).collect();
            let mut most = ticks::sweep(conn, Retained::OfAllBut(&keepers), before(default_days), limit)?.max(runs);
            for (organisation, days) in &own {
                most = most.max(ticks::sweep(conn, Retained::Of(organisation), before(*days), limit)?);
            }
            most = most.max(history::sweep(conn, before(longest), limit)?);
            most = most.max(triggers::sweep(conn, now - TRIGGERS_KEPT, limit)?);
            Ok(most.max(documents::sweep_tombstones(conn, now - TOMBSTONES_KEPT, limit)?))
        })
        .await
}
