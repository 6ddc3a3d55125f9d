//! The window: runs requested and not started, at the broker. Everything else waits in the table.
//!
//! Runs enter in turn by organisation; when nobody waits, in the transaction that makes them (`request.rs`). Entering is committed before the request is published: a crash between the two
//! leaves a run that is requested, overdue after a while, and then sent again by the watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::Message;
use chrono::{DateTime, Utc};
use model::event::EventKind;
use service_kit::traces::Place;
use tokio_util::sync::CancellationToken;

use crate::announce::announce_ended;
use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::store::queue::{self, Request};
use crate::store::window;
use crate::{creators, outcome, traces};

/// The longest sleep, should a notification be lost with the replica that was to give it.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Messages published in one call; each waits for the confirms of all.
const PUBLISH_MAX: usize = 500;

/// Keeps the window full, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let more = match fill(&context).await {
            Ok(more) => context.works(more),
            Err(error) => context.troubled("runs were not requested", &error),
        };
        if more {
            context.runs_queued.notify_one();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.runs_queued.notified() => {}
            () = tokio::time::sleep(SLEEP_MAX) => {}
        }
    }
}

/// Requests what has a place. True: there may be more.
async fn fill(context: &Context) -> Result<bool, DispatchError> {
    if !context.knows_the_time() {
        return Ok(false);
    }
    let now = context.clock.now();
    let any = context.db.read(move |conn| window::any(conn, now).map_err(DispatchError::from)).await?;
    context.runs_wait.store(any, Ordering::Relaxed);
    if !any {
        return Ok(false);
    }
    let size = i64::from(context.config.window);
    let check_at = now + context.config.overdue(1);
    let config = context.config.clone();
    let (pieces, ended, more) = context
        .db
        .write(move |conn| {
            let entered = window::enter(conn, size, now, check_at)?;
            let (requested, barred, ended) = creators::end_barred(conn, entered.ids, &config, now)?;
            let pieces = queue::in_pieces(conn, &requested)?;
            Ok::<_, DispatchError>((pieces, ended, entered.more || !barred.is_empty()))
        })
        .await?;
    outcome::note(context, &ended, &HashMap::new());
    for piece in pieces {
        let requests = context.db.read(move |conn| queue::requests(conn, &piece).map_err(DispatchError::from)).await?;
        // Dated before they entered: one that a pause takes back meanwhile is older than that, however late this is sent.
        request(context, requests, now).await?;
    }
    if !ended.is_empty() {
        // Who follows them may be due.
        context.schedules_changed.notify_one();
        announce_ended(context, &ended).await?;
    }
    Ok(more)
}

/// Publishes requests as they were written when their runs were made.
pub(crate) async fn request(
    context: &Context,
    requests: Vec<Request>,
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    for piece in requests.chunks(PUBLISH_MAX) {
        let places: Vec<_> = piece.iter().map(|(id, _)| traces::place_of_request(context, *id)).collect();
        let message = |((_, body), place): (&Request, &Option<Place>)| Message {
            traceparent: place.map(Place::traceparent),
            ..Message::new(EventKind::RunRequested, NAME, now, body.clone())
        };
        context.bus.publish(piece.iter().zip(&places).map(message).collect()).await?;
        for ((_, body), place) in piece.iter().zip(places) {
            traces::requested(context, body, place, now);
        }
    }
    Ok(())
}
