//! The sweep: forgets what is older than its retention, a little at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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
    let walked = AtomicI64::new(i64::MIN);
    service_kit::sweep::run(ROUND, context.clock.clone(), shutdown, || sweep(&context, &walked)).await
}

/// Returns the most rows that were forgotten of one table. `walked`: how far it has come along the history.
async fn sweep(context: &Context, walked: &AtomicI64) -> Result<usize, DispatchError> {
    if !context.knows_the_time() {
        return Ok(0);
    }
    let now = context.clock.now();
    let limit = i64::from(ROWS_MAX);
    let default_days = context.config.ticks_days;
    let after = walked.load(Ordering::Relaxed);
    let swept = context
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
            let history = history::sweep(conn, after, before(longest), usize::from(ROWS_MAX))?;
            most = most.max(history.forgotten);
            most = most.max(triggers::sweep(conn, now - TRIGGERS_KEPT, limit)?);
            most = most.max(documents::sweep_tombstones(conn, now - TOMBSTONES_KEPT, limit)?);
            Ok::<_, DispatchError>((most, history.after))
        })
        .await;
    let (most, after) = swept?;
    walked.store(after, Ordering::Relaxed);
    Ok(most)
}
