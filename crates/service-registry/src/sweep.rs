//! The sweep: forgets what is older than anybody asks for, a little at a time.
//!
//! Each batch is a transaction of its own, so that a crash leaves only more to do.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use service_kit::database::DatabaseError;
use service_kit::sweep::ROWS_MAX;
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::store::numbers;

/// How often the sweep looks.
const ROUND: Duration = Duration::from_secs(600);
/// How long it is remembered what was counted: longer than any message comes again.
const INVOCATIONS_KEPT: TimeDelta = TimeDelta::days(7);

/// Sweeps until `shutdown`.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    service_kit::sweep::run(ROUND, state.clock.clone(), shutdown, || sweep(&state)).await
}

async fn sweep(state: &State) -> Result<usize, DatabaseError> {
    let now = state.clock.now();
    let (shown, counted) = (numbers::shown_since(now).into(), (now - INVOCATIONS_KEPT).into());
    state.db.write(move |conn| Ok(numbers::forget(conn, shown, counted, ROWS_MAX.into())?)).await
}
