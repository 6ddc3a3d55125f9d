//! Time: all dispatchers of one database go by that database's clock.
//!
//! Each corrects its host's clock by the measured offset. A host that is off by more than two seconds is not corrected
//! but mistrusted: it claims nothing and judges nobody until somebody sets it right.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use service_kit::admin::Condition;
use service_kit::database::Backend;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often the offset is measured.
const ROUND: Duration = Duration::from_secs(10);
/// The largest offset that is corrected.
const OFFSET_MAX: TimeDelta = TimeDelta::seconds(2);

/// Measures, for as long as the process runs. A SQLite file has no clock of its own.
pub(crate) async fn run(context: Arc<Context>, agreeing: Condition, shutdown: CancellationToken) -> anyhow::Result<()> {
    if context.db.backend() == Backend::Sqlite || !context.clock.is_host() {
        agreeing.met();
        shutdown.cancelled().await;
        return Ok(());
    }
    loop {
        match context.db.clock_offset(&context.clock).await {
            Ok(offset) => take(&context, &agreeing, offset),
            // Whether the database is away is said by those who need it; time goes on as it was.
            Err(error) => tracing::debug!(error = service_kit::error::chain(&error), "the clock was not measured"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

fn take(context: &Context, agreeing: &Condition, offset: TimeDelta) {
    let seconds = offset.as_seconds_f64();
    metrics::gauge!("carillon_clock_offset_seconds").set(seconds);
    let agrees = offset.abs() <= OFFSET_MAX;
    if agrees {
        context.clock.set_offset(offset);
        agreeing.met();
    } else {
        agreeing.unmet(format!("the host's clock is {seconds:.1} s off the database's: set it right"));
    }
    if context.clock_agrees.swap(agrees, Ordering::Relaxed) != agrees {
        context.schedules_changed.notify_one();
    }
}
