//! Removes what nobody can see any more: logs of deleted agents, tombstones that were held for long
//! enough, and requests that may not be repeated any more.
//!
//! In small batches, each its own transaction, so that a crash leaves only less to do.

use std::sync::Arc;
use std::time::Duration;

use service_kit::database::DatabaseError;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::idempotency::LIFE;
use crate::state::State;
use crate::store::{agents, documents, idempotency as store_idempotency, logs};

const BATCH: usize = 500;
const INTERVAL: Duration = Duration::from_secs(3600);
/// After the database failed.
const RETRY: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        let wait = match sweep(&state, &shutdown).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "sweeping failed, trying again");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = state.broom.taken_up() => {}
            () = state.clock.sleep(wait) => {}
        }
    }
    Ok(())
}

async fn sweep(state: &State, shutdown: &CancellationToken) -> Result<(), DatabaseError> {
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let mut more = true;
    while more && !shutdown.is_cancelled() {
        let now = state.clock.now();
        more = state
            .db
            .write(move |conn| {
                Ok::<_, DatabaseError>(
                    sweep_logs(conn, limit)?
                        | (documents::sweep_tombstones(conn, now, limit)? == BATCH)
                        | (store_idempotency::sweep(conn, now - LIFE, limit)? == BATCH),
                )
            })
            .await?;
    }
    Ok(())
}

/// Removes a batch of logs of some deleted agent. Returns whether there may be more.
fn sweep_logs(conn: &mut service_kit::database::DbConnection, limit: i64) -> diesel::QueryResult<bool> {
    let Some(agent_id) = agents::any_deleted(conn)? else { return Ok(false) };
    if logs::delete_some(conn, agent_id, limit)? < BATCH {
        agents::forget_deleted(conn, agent_id)?;
    }
    Ok(true)
}
