//! Joining: before its first request a runner asks which runs are to be let go.
//!
//! A pause and a cancel are told to the runners that are there. Requests that wait at the broker may be older than this
//! runner, so what was said of them it has not heard: it asks, and a dispatcher tells it. Where nothing waits, nothing is
//! asked. Without a dispatcher it begins after three seconds: runs go on while dispatchers are away.
//!
//! A connection that was lost is the same: what was said meanwhile is asked for when there is a new one.

use std::sync::Arc;
use std::time::Duration;

use bus::Queue;
use model::event::RunnerJoined;
use service_kit::error::chain;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::runner::{OUTAGE_DELAYS, Parts};

/// Until it asks again: a dispatcher of the same process may not listen yet.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often it asks before it takes it that there is no dispatcher.
const ASKED_MAX: u32 = 12;

/// Returns when a dispatcher has told what is to be let go, when there is nothing to ask about, or nobody to ask.
pub(crate) async fn join(parts: &Parts, answered: &Notify, shutdown: &CancellationToken) {
    let (mut asked, mut failures) = (0, 0);
    while asked < ASKED_MAX {
        let pause = match ask(parts).await {
            Ok(false) => return,
            Ok(true) => {
                asked += 1;
                ASK_AGAIN
            }
            Err(reason) => {
                failures += 1;
                parts.consuming.unmet("requests cannot be taken: the bus is away");
                tracing::warn!(failures, error = reason, "cannot ask which runs are to be let go, trying again");
                OUTAGE_DELAYS.after(failures)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = answered.notified() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    tracing::warn!("no dispatcher said which runs are to be let go: beginning without");
}

/// Asks as soon as the answer will be heard.
async fn ask_when_listening(parts: &Parts) -> Result<(), String> {
    parts.bus.subscribe().await.map_err(|error| chain(&error))?;
    say_joined(parts).await
}

async fn say_joined(parts: &Parts) -> Result<(), String> {
    parts.bus.broadcast(parts.message(&RunnerJoined, None)).await.map_err(|error| chain(&error))
}

/// Asks, if requests wait that others may have made while this runner was not there.
async fn ask(parts: &Parts) -> Result<bool, String> {
    let depth = parts.bus.depth(Queue::AgentRunnerRuns).await.map_err(|error| chain(&error))?;
    if depth.is_empty() {
        return Ok(false);
    }
    say_joined(parts).await?;
    Ok(true)
}

/// Asks again whenever the bus was away, for as long as the runner lives. Once is enough: a dispatcher that does not
/// listen yet says all of it when it does.
pub(crate) async fn rejoin(parts: Arc<Parts>) {
    let mut connected = parts.bus.connected();
    connected.borrow_and_update();
    while connected.changed().await.is_ok() {
        if !*connected.borrow_and_update() {
            continue;
        }
        if let Err(reason) = ask_when_listening(&parts).await {
            tracing::warn!(error = reason, "cannot ask which runs are to be let go, trying again");
            tokio::time::sleep(ASK_AGAIN).await;
            connected.mark_changed();
        }
    }
    // The bus is closed, or never goes away: there is nothing to ask for.
    std::future::pending().await
}
