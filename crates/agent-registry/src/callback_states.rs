//! How agents' callbacks fare, as the deliverer sees it, copied into the agents' activity.
//!
//! The deliverer is asked for the endpoints that are not well, which are few, every [`INTERVAL`] and when one was
//! enabled; what changed is written. So a list of agents asks nobody, and with the deliverer away the last that was
//! known is shown. A crash leaves what the next round corrects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::Deserialize;
use service_kit::error::ApiError;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::callback_states;

const INTERVAL: Duration = Duration::from_secs(5);

/// What the deliverer says of an endpoint that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct NotWell {
    pub(crate) periodic_agent: i64,
    pub(crate) callback_state: String,
    pub(crate) failing_since: Option<DateTime<Utc>>,
}

/// Runs until shutdown.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut known = None;
    while !shutdown.is_cancelled() {
        let began = state.clock.now();
        // Whatever went wrong is logged where it did, and the next round tries again.
        let _ = round(&state, &mut known).await;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = state.deliverer.endpoint_changed.notified() => {}
            () = state.clock.sleep_until(began + INTERVAL) => {}
        }
    }
    Ok(())
}

/// Writes what changed since `known`, which is what this process wrote last.
async fn round(state: &State, known: &mut Option<BTreeMap<i64, NotWell>>) -> Result<(), ApiError> {
    let answer = state.deliverer.ask(Method::GET, &["endpoints"], &[], None).await?;
    let found: Vec<NotWell> = serde_json::from_value(answer.body).map_err(|error| ApiError::internal(&error))?;
    let found: BTreeMap<i64, NotWell> = found.into_iter().map(|one| (one.periodic_agent, one)).collect();
    if known.as_ref() == Some(&found) {
        return Ok(());
    }
    let written = found.clone();
    state.db.write(move |conn| Ok::<_, ApiError>(callback_states::replace(conn, &written)?)).await?;
    *known = Some(found);
    Ok(())
}
