//! The sweep: forgets what is older than its retention, a little at a time.
//!
//! Each batch is a transaction of its own, so that a crash leaves only more to do. A result that was forgotten does not
//! come again, since the dispatcher announces it only until it is held.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use service_kit::database::DatabaseError;
use service_kit::sweep::ROWS_MAX;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::store::retention::{self, Walk};

/// How often the sweep looks.
const ROUND: Duration = Duration::from_secs(60);
/// How long a tombstone is kept, so that a straggler cannot bring a deleted endpoint back.
const TOMBSTONES_KEPT: TimeDelta = TimeDelta::days(30);

/// Sweeps every minute until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let walk = Mutex::new(Walk::default());
    service_kit::sweep::run(ROUND, core.clock.clone(), shutdown, || sweep(&core, &walk)).await
}

/// Returns the most rows that were forgotten of one table; as many as a batch may forget, too, while organisations are
/// left that were not looked at.
async fn sweep(core: &Core, walk: &Mutex<Walk>) -> Result<usize, DatabaseError> {
    let now = core.clock.now();
    let kept = core.deliveries_kept;
    let deleted_before = (now - TOMBSTONES_KEPT).into();
    let locked = || walk.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = locked().clone();
    let swept = core
        .db
        .write(move |connection| {
            let deliveries = next.step(connection, now.into(), kept, ROWS_MAX.into())?;
            retention::forget_replays(connection, (now - kept).into())?;
            let tombstones = retention::forget_tombstones(connection, deleted_before, ROWS_MAX.into())?;
            Ok::<_, DatabaseError>((usize::try_from(deliveries).unwrap_or(0).max(tombstones), next))
        })
        .await;
    let (most, walked) = swept?;
    let rows = if walked.is_through() { most } else { ROWS_MAX.into() };
    *locked() = walked;
    Ok(rows)
}
