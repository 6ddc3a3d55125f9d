//! Joining: a runner that begins, or was cut off, asks which runs are to be let go, and is told.
//!
//! A pause and a cancel reach the runners that are there. The request of a run that was taken back may still wait at the
//! broker, where a runner that comes later would find it, and one that was cut off goes on asking a mentor in vain; so
//! each is noted, and told to whoever joins, until its run is requested anew. So is a run that ended as lost, or was
//! answered, well or not, after its request was sent more than once: a copy may wait there for a runner that has its
//! key. Every dispatcher answers: a crash of one leaves the others, and without any the runner asks again.
//!
//! A dispatcher that died, or was cut off itself, may have noted what nobody heard: it says all of it when it is there.

use std::sync::Arc;
use std::time::Duration;

use bus::Message;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use model::event::{Event, EventKind, RunCancel};
use model::id::RunId;
use model::wire::Wire;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::store::let_go::{self, LetGo};

/// Until the next try to listen.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Most runs in one message.
const RUNS_MAX: usize = 10_000;
/// The request of a run that has ended does not wait at the broker for longer than this, nor does a run last longer.
const ENDED_FOR_MAX: TimeDelta = TimeDelta::days(1);

/// Listens, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        match context.bus.subscribe().await {
            Ok(mut broadcasts) => {
                let hear = async {
                    while let Some(message) = broadcasts.next().await {
                        if message.kind != EventKind::RunnerJoined {
                            continue;
                        }
                        // One answer is enough for all who have asked by now.
                        while let Some(Some(_)) = broadcasts.next().now_or_never() {}
                        if let Err(error) = tell(&context, true).await {
                            let error = chain(&error);
                            tracing::warn!(error, "a runner that joined was not answered: it asks again");
                        }
                    }
                };
                // Neither ends before the bus is closed: so is the process, soon.
                let both = async { tokio::join!(hear, repeat(&context)) };
                let _ = shutdown.run_until_cancelled(both).await;
                shutdown.cancelled().await;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot listen for runners that join, trying again");
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(TRY_AGAIN)).await;
            }
        }
    }
    Ok(())
}

/// Says again what may not have been heard: now, and whenever the bus was away.
async fn repeat(context: &Context) {
    let mut connected = context.bus.connected();
    loop {
        // From here on an outage is another one.
        connected.borrow_and_update();
        if let Err(error) = tell_when_listening(context).await {
            tracing::warn!(error, "runners were not told again which runs are to be let go, trying again");
            tokio::time::sleep(TRY_AGAIN).await;
            continue;
        }
        if connected.changed().await.is_err() || connected.wait_for(|connected| *connected).await.is_err() {
            return;
        }
    }
}

/// Runners that are back before this process ask when it may not hear them: it says so when it does.
async fn tell_when_listening(context: &Context) -> Result<(), String> {
    context.bus.subscribe().await.map_err(|error| chain(&error))?;
    tell(context, false).await.map_err(|error| chain(&error))
}

async fn tell(context: &Context, is_answer: bool) -> Result<(), DispatchError> {
    let now = context.clock.now();
    let told = move |conn: &mut _| let_go::told(conn, now - ENDED_FOR_MAX).map_err(DispatchError::from);
    let LetGo { ended, unfinished } = context.db.read(told).await?;
    // What has ended is never requested anew, whenever that was said.
    for run_ids in ended.chunks(RUNS_MAX) {
        context.bus.broadcast(message(run_ids.to_vec(), false, now)).await?;
    }
    for same_moment in unfinished.chunk_by(|(one, _), (other, _)| one == other) {
        for piece in same_moment.chunks(RUNS_MAX) {
            let run_ids = piece.iter().map(|(_, id)| *id).collect();
            context.bus.broadcast(message(run_ids, false, piece[0].0)).await?;
        }
    }
    if is_answer {
        context.bus.broadcast(message(Vec::new(), true, now)).await?;
    }
    Ok(())
}

/// Of runs that have not ended, dated as it was said first: what was requested since then is meant to run.
fn message(run_ids: Vec<RunId>, complete: bool, said_at: DateTime<Utc>) -> Message {
    Message::new(RunCancel::KIND, NAME, said_at, RunCancel { run_ids, complete }.encode())
}
