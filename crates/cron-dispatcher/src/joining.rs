//! Joining: a runner that begins asks which runs are to be let go, and is told.
//!
//! A pause and a cancel reach the runners that are there. The request of a run that was taken back may still wait at the
//! broker, where a runner that comes later would find it; so each is noted until its run is requested anew, and told to
//! whoever joins, dated as it was said first. Every dispatcher answers: a crash of one leaves the others, and without any
//! the runner asks again.

use std::sync::Arc;
use std::time::Duration;

use bus::Message;
use chrono::{DateTime, TimeDelta, Utc};
use model::event::{Event, EventKind, RunCancel};
use model::id::RunId;
use model::wire::Wire;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::store::let_go;

/// Until the next try to listen.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Most runs in one message.
const RUNS_MAX: usize = 10_000;
/// The request of a run that has ended does not wait at the broker for longer than this.
const ENDED_FOR_MAX: TimeDelta = TimeDelta::days(1);

/// Listens, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        match context.bus.subscribe().await {
            Ok(mut broadcasts) => {
                let hear = async {
                    while let Some(message) = broadcasts.next().await {
                        if message.kind == EventKind::RunnerJoined
                            && let Err(error) = answer(&context).await
                        {
                            tracing::warn!(
                                error = chain(&error),
                                "a runner that joined was not answered: it asks again"
                            );
                        }
                    }
                    // The bus is closed: so is the process, soon.
                    shutdown.cancelled().await;
                };
                let _ = shutdown.run_until_cancelled(hear).await;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot listen for runners that join, trying again");
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(TRY_AGAIN)).await;
            }
        }
    }
    Ok(())
}

async fn answer(context: &Context) -> Result<(), DispatchError> {
    let now = context.clock.now();
    let let_go = move |conn: &mut _| let_go::told_since(conn, now - ENDED_FOR_MAX).map_err(DispatchError::from);
    let let_go = context.db.read(let_go).await?;
    for same_moment in let_go.chunk_by(|(one, _), (other, _)| one == other) {
        for piece in same_moment.chunks(RUNS_MAX) {
            let run_ids = piece.iter().map(|(_, id)| *id).collect();
            context.bus.broadcast(message(run_ids, false, piece[0].0)).await?;
        }
    }
    Ok(context.bus.broadcast(message(Vec::new(), true, now)).await?)
}

/// Dated as it was said first: what was requested since then is meant to run.
fn message(run_ids: Vec<RunId>, complete: bool, said_at: DateTime<Utc>) -> Message {
    Message::new(RunCancel::KIND, NAME, said_at, RunCancel { run_ids, complete }.encode())
}
