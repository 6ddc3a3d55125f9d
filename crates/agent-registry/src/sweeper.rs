//! Removes what nobody can see any more: logs of deleted agents, tombstones that were held for long enough, what is
//! older than it is to be kept, requests that may not be repeated any more, and organisations that are being erased.
//!
//! In small batches, each its own transaction, so that a crash leaves only less to do.

use std::sync::Arc;
use std::time::Duration;

use service_kit::database::DatabaseError;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::documents::Written;
use crate::idempotency::LIFE;
use crate::state::State;
use crate::store::{agents, documents, idempotency, logs};
use crate::{erase, retention};

const BATCH: usize = 500;
/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_secs(3600);
/// After the database failed.
const RETRY: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut due = state.clock.now();
    while !shutdown.is_cancelled() {
        // The next time is counted from here: what becomes due while this one runs is not to wait an interval more.
        let began = state.clock.now();
        match sweep(&state, &shutdown, began >= due).await {
            Ok(()) if began >= due => due = began + INTERVAL,
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "sweeping failed, trying again");
                due = began + RETRY;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = state.broom.taken_up() => {}
            () = state.clock.sleep_until(due) => {}
        }
    }
    Ok(())
}

/// Removes what is left over. What is old is looked for in all organisations if that `is_due`, else in those that want
/// it kept for another time than before.
async fn sweep(state: &State, shutdown: &CancellationToken, is_due: bool) -> Result<(), DatabaseError> {
    let changed = state.broom.take_changed();
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let mut more = true;
    while more && !shutdown.is_cancelled() {
        let now = state.clock.now();
        let swept = state.db.write(move |conn| {
            let mut written = Written::new();
            let more = (idempotency::sweep(conn, now - LIFE, limit)? == BATCH)
                | erase::some(conn, now, limit, &mut written)?
                | sweep_logs(conn, limit)?
                | (documents::sweep_tombstones(conn, now, limit)? == BATCH);
            Ok::<_, DatabaseError>((more, written))
        });
        let (left, written) = swept.await?;
        state.outbox.announce(written);
        more = left;
    }
    if is_due {
        return retention::sweep(state, shutdown, limit).await;
    }
    for organisation in changed {
        retention::sweep_one(state, shutdown, organisation, limit).await?;
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
