//! Measures what waits, for `/metrics`: nobody acts on it here.
//!
//! Every replica reports the same figures of their database. While it is away, the last ones stay.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::store::backlog::{self, Backlog};
use crate::words::Status;

/// As often as metrics are usually scraped.
const ROUND: Duration = Duration::from_secs(15);

/// Measures until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> anyhow::Result<()> {
    // There from the start, at zero, so that the first one counts as an increase.
    for status in [Status::Delivered, Status::Held, Status::Exhausted, Status::Discarded] {
        counter!("carillon_deliveries_settled_total", "status" => status.as_str()).increment(0);
    }
    loop {
        let began = core.clock.now();
        if let Err(error) = measure(&core, began.into()).await {
            tracing::debug!(error = %chain(&error), "the backlog was not measured");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = core.clock.sleep_until(began + ROUND) => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges")]
async fn measure(core: &Core, now: Timestamp) -> Result<(), DatabaseError> {
    let Backlog { due, oldest_due, held, failing, disabled } =
        core.db.read(move |connection| backlog::measure(connection, now).map_err(DatabaseError::from)).await?;
    let age = oldest_due.map_or(0.0, |due_at| (*now - *due_at).as_seconds_f64().max(0.0));
    gauge!("carillon_deliveries_due").set(due as f64);
    gauge!("carillon_oldest_due_delivery_seconds").set(age);
    gauge!("carillon_deliveries_held").set(held as f64);
    gauge!("carillon_endpoints_unwell", "state" => "failing").set(failing as f64);
    gauge!("carillon_endpoints_unwell", "state" => "disabled").set(disabled as f64);
    Ok(())
}
