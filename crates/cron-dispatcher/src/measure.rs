//! Measures what waits, for `/metrics`: nobody acts on it here.
//!
//! Every replica reports the same figures of their database. While it is away, the last ones stay.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::DispatchError;
use crate::store::backlog::{self, Backlog};

/// As often as metrics are usually scraped.
const ROUND: Duration = Duration::from_secs(15);

/// Measures, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    metrics::gauge!("carillon_window_size").set(f64::from(context.config.window));
    loop {
        let began = context.clock.now();
        if let Err(error) = measure(&context, began).await {
            tracing::debug!(error = service_kit::error::chain(&error), "the backlog was not measured");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.clock.sleep_until(began + ROUND) => {}
        }
    }
}

async fn measure(context: &Context, now: DateTime<Utc>) -> Result<(), DispatchError> {
    let Backlog { stages, oldest_queued, oldest_due } =
        context.db.read(|conn| backlog::measure(conn).map_err(DispatchError::from)).await?;
    for (stage, runs) in stages {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("carillon_runs", "stage" => stage).set(runs as f64);
    }
    let age = |since: Option<DateTime<Utc>>| since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0));
    metrics::gauge!("carillon_oldest_queued_run_seconds").set(age(oldest_queued));
    metrics::gauge!("carillon_oldest_due_tick_seconds").set(age(oldest_due));
    Ok(())
}
