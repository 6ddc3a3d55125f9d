//! How agents' callbacks fare, as the deliverer sees it, copied into the agents' activity.
//!
//! The deliverer is asked for the endpoints that are not well, which are few, every [`INTERVAL`] and when one was
//! enabled; what changed is written. So a list of agents asks nobody, and with the deliverer away the last that was
//! known is shown. A crash leaves what the next round corrects.
//!
//! Of each endpoint that has come to the next warning, or was disabled, the audit log is told in the same transaction,
//! once, whichever replica sees it first: nobody did it, so nobody else would tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use reqwest::Method;
use serde::Deserialize;
use service_kit::database::DbConnection;
use service_kit::error::ApiError;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::state::State;
use crate::store::callback_states;

const INTERVAL: Duration = Duration::from_secs(5);
/// What stands for the last warning: that it is disabled.
const DISABLED_PERCENT: i32 = 100;

/// What the deliverer says of an endpoint that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct NotWell {
    pub(crate) periodic_agent: i64,
    pub(crate) callback_state: String,
    pub(crate) failing_since: Option<DateTime<Utc>>,
    /// How much of the time has passed after which it is disabled, as far as a warning was given: 50, 70, 90; 100: it
    /// is disabled.
    #[serde(default)]
    pub(crate) warned_percent: i32,
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
    let (written, now) = (found.clone(), state.clock.now());
    let replaced = state.db.write(move |conn| {
        callback_states::replace(conn, &written)?;
        for warned in written.values().filter(|one| one.warned_percent > 0) {
            warn(conn, warned, now)?;
        }
        Ok::<_, ApiError>(())
    });
    replaced.await?;
    *known = Some(found);
    Ok(())
}

/// Tells the audit log of a warning, unless it was told of this one, or of a later one, before.
fn warn(conn: &mut DbConnection, warned: &NotWell, now: DateTime<Utc>) -> QueryResult<()> {
    let (agent_id, percent) = (warned.periodic_agent, warned.warned_percent);
    let Some(since) = warned.failing_since else { return Ok(()) };
    let Some(organisation) = callback_states::note_warning(conn, agent_id, since.into(), percent)? else {
        return Ok(());
    };
    let (action, fields): (_, &[&str]) = if percent >= DISABLED_PERCENT {
        ("agent.callbacks_disabled".to_owned(), &["callback_state"])
    } else {
        (format!("agent.callbacks_failing_{percent}_percent"), &[])
    };
    audit::record_own(conn, &organisation, &action, &agent_id.to_string(), fields, now)
}
