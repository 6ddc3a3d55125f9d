//! Pause: nothing starts until somebody resumes; what was requested and has not started comes back into the queue.
//!
//! A pause is known before its answer: it is committed, and the runners have been told to let go of what was taken
//! back. A crash between the two leaves runs that are queued again and may start once more at a runner that had their
//! first request, until a dispatcher says again what is to be let go (`joining.rs`). Runners that join later ask.

use std::time::Duration;

use actix_web::web;
use chrono::{DateTime, Utc};
use model::document::{CatchUp, Pause};
use model::id::RunId;
use serde::{Deserialize, Serialize};
use service_kit::database::DbConnection;

use crate::announce::stop;
use crate::config::DispatcherConfig;
use crate::context::Context;
use crate::error::DispatchError;
use crate::fire::tell;
use crate::fired::Fired;
use crate::settle::{Through, fire};
use crate::store::everything::{self, Everything};
use crate::store::schedules::{self, Of};
use crate::store::{let_go, turns, window};

/// A run that was taken back is not requested again for so long: runners take a request that is dated less than two
/// seconds after a cancel for one that was cancelled.
pub(crate) const RESTART_DELAY: Duration = Duration::from_secs(3);

/// `PUT /internal/pause`: what to do with everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseRequest {
    paused: bool,
    #[serde(default)]
    note: String,
    /// What becomes of the ticks in between, when it ends.
    #[serde(default)]
    catch_up: Option<String>,
}

/// Whether everything is paused.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PauseView {
    paused: bool,
    note: String,
    changed_at: Option<DateTime<Utc>>,
}

impl From<Everything> for PauseView {
    fn from(Everything { paused, note, changed_at }: Everything) -> Self {
        Self { paused, note, changed_at }
    }
}

/// Takes requested runs back, or lets go on what waited for the end of a pause. Returns the runs that were taken back.
pub(crate) fn change_pause(
    conn: &mut DbConnection,
    of: Of<'_>,
    pause: Pause,
    now: DateTime<Utc>,
) -> Result<Vec<RunId>, DispatchError> {
    if pause.paused {
        return Ok(let_go::take_back(conn, of, now, now + RESTART_DELAY)?.into_iter().map(RunId).collect());
    }
    schedules::resume(conn, of, pause.resumed_with)?;
    Ok(Vec::new())
}

/// Fires what was due before a pause began: it waits in the queue, and is no tick of the pause.
pub(crate) fn settle_before(
    conn: &mut DbConnection,
    of: Of<'_>,
    paused_at: DateTime<Utc>,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<Fired, DispatchError> {
    let mut all = Fired::default();
    let due = schedules::due_of(conn, of, paused_at)?;
    if due.is_empty() {
        return Ok(all);
    }
    // All schedules, then all turns, as whoever fires: piece by piece, the turns of one would be held while it waits for
    // the schedules of the next.
    let organisations = schedules::lock_with_followers(conn, &due)?;
    turns::lock(conn, &organisations.iter().map(String::as_str).collect())?;
    for piece in due.chunks(config.fire_batch as usize) {
        let due = schedules::lock_all(conn, piece)?;
        all.join(fire(conn, due, Through::Pause(paused_at), now, config)?);
    }
    Ok(all)
}

/// Pauses or resumes everything; the answer is true of every dispatcher.
pub(crate) async fn put(context: &Context, asked: PauseRequest) -> Result<PauseView, DispatchError> {
    let catch_up = asked.catch_up.as_deref().map(str::parse::<CatchUp>).transpose();
    let resumed_with = catch_up.map_err(|unknown| DispatchError::BadRequest(format!("catch_up: {unknown}")))?;
    let pause = Pause { paused: asked.paused, resumed_with };
    let (now, config) = (context.clock.now(), context.config.clone());
    let (fired, taken_back, view) =
        context.db.write(move |conn| put_everything(conn, pause, &asked.note, &config, now)).await?;
    tracing::info!(paused = pause.paused, runs.taken_back = taken_back.len(), "the pause of everything changed");
    stop(context, taken_back).await?;
    tell(context, fired).await?;
    context.schedules_changed.notify_one();
    context.runs_queued.notify_one();
    Ok(view.into())
}

fn put_everything(
    conn: &mut DbConnection,
    pause: Pause,
    note: &str,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Fired, Vec<RunId>, Everything), DispatchError> {
    everything::lock(conn)?;
    let was_paused = everything::is_paused(conn)?;
    let (mut fired, mut taken_back) = (Fired::default(), Vec::new());
    if pause.paused && !was_paused {
        fired = settle_before(conn, Of::Everything, now, now, config)?;
    }
    if pause.paused {
        // Whoever lets runs into the window has done so, or will see this. A resume changes schedules after this, which
        // are locked before the window; who does not see it yet lets nothing in.
        window::lock(conn)?;
    } else if was_paused {
        schedules::lock_paused(conn, Of::Everything)?;
    }
    everything::put(conn, pause.paused, note, now)?;
    if pause.paused != was_paused {
        taken_back = change_pause(conn, Of::Everything, pause, now)?;
    }
    Ok((fired, taken_back, everything::load(conn)?))
}

/// Whether everything is paused.
pub(crate) async fn get(context: web::Data<Context>) -> Result<web::Json<PauseView>, service_kit::error::ApiError> {
    let found = context.db.read(|conn| everything::load(conn).map_err(DispatchError::from)).await?;
    Ok(web::Json(found.into()))
}
