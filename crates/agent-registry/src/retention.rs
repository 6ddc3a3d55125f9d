//! Removes what is older than its organisation, or the configuration, wants it kept: logs of ended runs, and the audit
//! log. In small batches, each its own transaction, so that a crash leaves only less to do.

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::database::DatabaseError;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::{audit_log, logs, organisations};

/// Organisations looked at in one go.
const ORGANISATIONS: i64 = 100;

/// One round over all organisations.
pub(crate) async fn sweep(state: &State, shutdown: &CancellationToken, limit: i64) -> Result<(), DatabaseError> {
    let mut after = String::new();
    loop {
        let from = after.clone();
        let found =
            state.db.read(move |conn| Ok::<_, DatabaseError>(organisations::log_days(conn, &from, ORGANISATIONS)?));
        let batch = found.await?;
        let Some((last, _)) = batch.last() else { return Ok(()) };
        after.clone_from(last);
        for (organisation, own_days) in batch {
            sweep_organisation(state, shutdown, &organisation, own_days, limit).await?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }
}

/// The same for one organisation.
pub(crate) async fn sweep_one(
    state: &State,
    shutdown: &CancellationToken,
    organisation: String,
    limit: i64,
) -> Result<(), DatabaseError> {
    let found = state.db.read(move |conn| Ok::<_, DatabaseError>(organisations::find(conn, &organisation)?));
    let Some(row) = found.await? else { return Ok(()) };
    sweep_organisation(state, shutdown, &row.key, row.logs_days, limit).await
}

async fn sweep_organisation(
    state: &State,
    shutdown: &CancellationToken,
    organisation: &str,
    own_days: Option<i32>,
    limit: i64,
) -> Result<(), DatabaseError> {
    let now = state.clock.now();
    let logs_days = own_days.map_or(state.config.registry.logs_days, i32::unsigned_abs);
    let (logs_before, audit_before) = (before(now, logs_days), before(now, state.config.registry.audit_days));
    let mut more = true;
    while more && !shutdown.is_cancelled() {
        let organisation = organisation.to_owned();
        let removed = state.db.write(move |conn| {
            let logs = logs::delete_old(conn, &organisation, logs_before, limit)?;
            let changes = audit_log::delete_some(conn, &organisation, audit_before, limit)?;
            Ok::<_, DatabaseError>((logs, changes))
        });
        let (logs, changes) = removed.await?;
        metrics::counter!("carillon_registry_logs_expired_total").increment(logs as u64);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        more = logs >= limit || changes >= limit;
    }
    Ok(())
}

fn before(now: DateTime<Utc>, days: u32) -> DateTime<Utc> {
    now - TimeDelta::days(days.into())
}
