//! The window: runs requested and not started, at the broker. Everything else waits in the table.
//!
//! Runs enter in turn by organisation. Entering is committed before the request is published: a crash between the two
//! leaves a run that is requested, overdue after a while, and then sent again by the watch.

use std::sync::Arc;
use std::time::Duration;

use bus::Message;
use model::event::EventKind;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::store::queue;

/// The longest sleep, should a notification be lost with the replica that was to give it.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Messages published in one call; each waits for the confirms of all.
const PUBLISH_MAX: usize = 500;

/// Keeps the window full, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        match fill(&context).await {
            Ok(()) => context.works(()),
            Err(error) => context.troubled("runs were not requested", &error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.runs_queued.notified() => {}
            () = tokio::time::sleep(SLEEP_MAX) => {}
        }
    }
}

async fn fill(context: &Context) -> Result<(), DispatchError> {
    let queued = context.db.read(|conn| queue::any_queued(conn).map_err(DispatchError::from)).await?;
    if !queued {
        return Ok(());
    }
    let window = i64::from(context.config.window);
    let check_at = context.clock.now() + context.config.overdue(1);
    let requests = context
        .db
        .write(move |conn| {
            let ids = queue::enter_window(conn, window, check_at)?;
            Ok::<_, DispatchError>(queue::requests(conn, &ids)?)
        })
        .await?;
    request(context, requests).await
}

/// Publishes requests as they were written when their runs were made.
pub(crate) async fn request(context: &Context, requests: Vec<(i64, Vec<u8>)>) -> Result<(), DispatchError> {
    let now = context.clock.now();
    for piece in requests.chunks(PUBLISH_MAX) {
        let messages = piece
            .iter()
            .map(|(_, body)| Message::new(EventKind::RunRequested, NAME, now, body.clone()))
            .collect::<Vec<_>>();
        context.bus.publish(messages).await?;
    }
    Ok(())
}
