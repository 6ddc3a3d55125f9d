//! Erases an organisation: as a job, in batches, each its own transaction, so that a crash leaves only less to do.
//!
//! It begins with a mark on the organisation and the end of its API keys; nothing new is taken from then on. Requests
//! that might be repeated are forgotten first: their answers tell of what goes. Agents and mentors leave tombstones, by
//! which the dispatcher and the deliverer erase theirs. Logs and the audit log follow, the organisation itself comes
//! last; if somebody who may comes back later, it begins anew.
//!
//! What stays: tombstones (kind, id and organisation's name) for thirty days; the organisation's document, which has no
//! tombstone and is emptied of all settings, so its name remains; at the service registry, everything: it is not told.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use model::document::Subject;
use model::id::{AgentId, MentorId};
use service_kit::database::DbConnection;
use service_kit::error::ApiError;

use crate::access::Acting;
use crate::audit;
use crate::documents::{self, Written};
use crate::store::documents::in_order_of_keys;
use crate::store::organisations::OrganisationRow;
use crate::store::{agents, api_keys, audit_log, idempotency, logs, mentors, organisations, users};

/// Agents and mentors in a batch: each is several statements.
const BATCH: i64 = 100;

/// Marks an organisation as to be erased, and revokes its keys.
pub(crate) fn begin(conn: &mut DbConnection, acting: &Acting, now: DateTime<Utc>) -> Result<OrganisationRow, ApiError> {
    let found = organisations::find_for_update(conn, &acting.organisation)?;
    let mut row = found.ok_or_else(|| ApiError::no_such("Organisation"))?;
    if row.erasing_since.is_none() {
        row.erasing_since = Some(now.into());
        organisations::update(conn, &row)?;
        api_keys::delete_all(conn, &row.key)?;
        audit::record(conn, acting, "organisation.deleted", &row.key, &[], now)?;
    }
    Ok(row)
}

/// Erases a batch of some organisation that is to be erased. Returns whether there may be more.
pub(crate) fn some(
    conn: &mut DbConnection,
    now: DateTime<Utc>,
    limit: i64,
    written: &mut Written,
) -> QueryResult<bool> {
    let Some(organisation) = organisations::any_erasing(conn)? else { return Ok(false) };
    // With each batch, the last one too: also those of requests that were under way when the erasing began.
    let forgot = idempotency::delete_of(conn, &organisation, limit)? > 0;
    let locked = organisations::find_for_update(conn, &organisation)?;
    if locked.is_none_or(|row| row.erasing_since.is_none()) {
        // Another replica was quicker by a moment.
        return Ok(true);
    }
    let erased = erase_agents(conn, &organisation, now, written)?
        || erase_mentors(conn, &organisation, now, written)?
        || logs::delete_of(conn, &organisation, limit)? > 0
        || audit_log::delete_some(conn, &organisation, now + TimeDelta::days(1), limit)? > 0;
    if !forgot && !erased {
        let blank = OrganisationRow::blank(&organisation, now);
        documents::write(conn, &organisation, documents::of_organisation(&blank, BTreeSet::new()), now, written)?;
        // A key made by a request that was under way when the erasing began.
        api_keys::delete_all(conn, &organisation)?;
        users::delete_all(conn, &organisation)?;
        organisations::delete(conn, &organisation)?;
        tracing::info!(organisation, "an organisation was erased");
    }
    Ok(true)
}

fn erase_agents(
    conn: &mut DbConnection,
    organisation: &str,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<bool> {
    let ids = agents::some_of(conn, organisation, BATCH)?;
    agents::lock_to_delete(conn, &ids)?;
    agents::unchain(conn, &ids)?;
    for id in in_order_of_keys(ids.clone()) {
        documents::write(conn, organisation, Subject::AgentDeleted(AgentId(id)), now, written)?;
    }
    for id in &ids {
        agents::delete(conn, *id)?;
    }
    Ok(!ids.is_empty())
}

fn erase_mentors(
    conn: &mut DbConnection,
    organisation: &str,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<bool> {
    let ids = mentors::some_of(conn, organisation, BATCH)?;
    for id in &ids {
        mentors::delete(conn, *id)?;
    }
    for id in in_order_of_keys(ids.clone()) {
        documents::write(conn, organisation, Subject::MentorDeleted(MentorId(id)), now, written)?;
    }
    Ok(!ids.is_empty())
}
