//! Keeps the counts of logs and agents few: on PostgreSQL each batch of runs and each agent that comes or goes adds rows
//! to them, which are merged a while later.
//!
//! In one transaction, one replica at a time, so that the sum is the same before, during and after, and a crash changes
//! nothing. While nothing is counted it sleeps.

use std::sync::Arc;
use std::time::Duration;

use service_kit::database::DatabaseError;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::counts;

/// How long rows may gather: some ten thousand at a thousand runs a second.
const INTERVAL: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let gathered = async {
            state.counted.notified().await;
            state.clock.sleep(INTERVAL).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = gathered => {}
        }
        let merged = state.db.write_exclusively(|conn| Ok::<_, DatabaseError>(counts::merge(conn)?)).await;
        if let Err(error) = merged {
            tracing::warn!(error = %chain(&error), "counts of logs and agents were not merged, trying again");
            state.counted.notify_one();
        }
    }
}
