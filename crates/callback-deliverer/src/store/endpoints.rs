//! Endpoints: what is held of agents' documents, and what a new one means for deliveries on their way.

use std::collections::HashMap;

use chrono::TimeDelta;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel::upsert::excluded;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{Target, states};
use crate::schema::{deliveries, endpoints};
use crate::words::{DiscardReason, Status};

/// How long a delivery waits for the URL of an agent that is held without one. See [`Endpoint::fate`].
pub(crate) const URL_WAIT: TimeDelta = TimeDelta::hours(1);

/// An agent's endpoint in one version.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = endpoints, treat_none_as_default_value = false)]
pub(crate) struct Endpoint {
    pub(crate) agent_id: i64,
    pub(crate) organisation: String,
    pub(crate) version: i64,
    pub(crate) url: Option<String>,
    pub(crate) sealed_secret: Vec<u8>,
    pub(crate) previous_sealed_secret: Option<Vec<u8>>,
    pub(crate) previous_until: Option<Timestamp>,
    pub(crate) encrypt: bool,
    pub(crate) signature_only_hub: bool,
    pub(crate) deleted: bool,
    pub(crate) updated_at: Timestamp,
}

/// What is to become of a delivery, as far as its endpoint says.
pub(crate) enum Fate {
    /// It can be sent there.
    Send(Target),
    /// Its endpoint is not held: it waits until it is.
    AwaitDocument,
    /// Its endpoint is disabled: it waits until it is enabled.
    Hold,
    /// Its endpoint may be about to change: it waits for that, but not longer than [`URL_WAIT`].
    AwaitUrl,
    /// Nobody will receive it any more.
    Discard(DiscardReason),
}

impl Endpoint {
    /// What becomes of a delivery that was decided at `decided_at`, when its agent had a callback URL, in the version
    /// `awaited` of its document.
    ///
    /// Where that version is known, it is waited for. Where it is not, and the held version is older than the decision
    /// and without a URL, the version with the URL is still on its way, or the dispatcher did not know yet that the URL
    /// was removed: only time tells.
    pub(crate) fn fate(held: Option<&Self>, awaited: Option<i64>, decided_at: chrono::DateTime<chrono::Utc>) -> Fate {
        let Some(held) = held else { return Fate::AwaitDocument };
        if held.deleted {
            return Fate::Discard(DiscardReason::AgentDeleted);
        }
        if awaited.is_some_and(|awaited| held.version < awaited) {
            return Fate::AwaitDocument;
        }
        match held.target() {
            Some(target) => Fate::Send(target),
            None if awaited.is_none() && model::document::version_time(held.version) < decided_at => Fate::AwaitUrl,
            None => Fate::Discard(DiscardReason::CallbackRemoved),
        }
    }

    /// Where callbacks go, if anywhere.
    pub(crate) fn target(&self) -> Option<Target> {
        Some(Target {
            url: self.url.clone()?,
            sealed_secret: self.sealed_secret.clone(),
            previous_secret: self.previous_sealed_secret.clone().zip(self.previous_until),
            encrypt: self.encrypt,
            signature_only_hub: self.signature_only_hub,
        })
    }
}

/// While somebody decides by what endpoints say, no endpoint changes, and the other way round: else a delivery could
/// begin to wait for a document that has just come, for ever. Taken first in its transaction.
///
/// PostgreSQL only; SQLite has one writer at a time.
pub(crate) fn lock(connection: &mut DbConnection, hold: Hold) -> QueryResult<()> {
    let DbConnection::Postgres(connection) = connection else { return Ok(()) };
    let lock = match hold {
        Hold::Shared => "SELECT pg_advisory_xact_lock_shared($1)",
        Hold::Exclusive => "SELECT pg_advisory_xact_lock($1)",
    };
    diesel::sql_query(lock).bind::<BigInt, _>(LOCK).execute(connection)?;
    Ok(())
}

/// The key of [`lock`]: `endpoint` in ASCII.
const LOCK: i64 = 0x656e_6470_6f69_6e74;

/// How many may hold [`lock`] at a time.
pub(crate) enum Hold {
    /// Those who decide by endpoints.
    Shared,
    /// The one who changes them.
    Exclusive,
}

/// The endpoints held of these agents, by agent.
pub(crate) fn of_agents(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<HashMap<i64, Endpoint>> {
    let rows: Vec<Endpoint> =
        endpoints::table.filter(endpoints::agent_id.eq_any(agents)).select(Endpoint::as_select()).load(connection)?;
    Ok(rows.into_iter().map(|row| (row.agent_id, row)).collect())
}

/// Stores endpoints, each agent at most once, where they are newer than what is held; deliveries on their way follow.
///
/// An endpoint with another URL is another one: it is enabled, and counts as well. Idempotent: a version that is held
/// changes nothing.
pub(crate) fn apply(connection: &mut DbConnection, newer: &[Endpoint], now: Timestamp) -> QueryResult<Applied> {
    lock(connection, Hold::Exclusive)?;
    let mut outcome = Applied::default();
    for chunk in newer.chunks(500) {
        let agents: Vec<i64> = chunk.iter().map(|endpoint| endpoint.agent_id).collect();
        let held = of_agents(connection, &agents)?;
        let applied = upsert(connection, chunk, &held)?;
        let moved = |endpoint: &&Endpoint| {
            applied.contains(&endpoint.agent_id)
                && held.get(&endpoint.agent_id).is_some_and(|held| held.url != endpoint.url)
        };
        let moved: Vec<i64> = chunk.iter().filter(moved).map(|endpoint| endpoint.agent_id).collect();
        states::enable(connection, &moved)?;
        outcome.moved.extend(moved);
        let of = |wanted: fn(&Endpoint) -> bool| -> Vec<i64> {
            let chosen = chunk.iter().filter(|endpoint| applied.contains(&endpoint.agent_id) && wanted(endpoint));
            chosen.map(|endpoint| endpoint.agent_id).collect()
        };
        outcome.discarded += discard(connection, &of(|endpoint| endpoint.deleted), DiscardReason::AgentDeleted, now)?;
        let removed = of(|endpoint| !endpoint.deleted && endpoint.url.is_none());
        outcome.discarded += discard(connection, &removed, DiscardReason::CallbackRemoved, now)?;
        outcome.due |= wake(connection, &of(|endpoint| endpoint.url.is_some()), now)?;
    }
    Ok(outcome)
}

/// What came of storing endpoints.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Whether a delivery became due.
    pub(crate) due: bool,
    /// How many deliveries have nobody any more who would receive them.
    pub(crate) discarded: usize,
    /// The agents whose endpoint has another URL.
    pub(crate) moved: Vec<i64>,
}

/// Returns the agents whose version was newer. Under the exclusive [`lock`] nothing comes between reading and writing.
fn upsert(connection: &mut DbConnection, rows: &[Endpoint], held: &HashMap<i64, Endpoint>) -> QueryResult<Vec<i64>> {
    let is_newer = |row: &&Endpoint| held.get(&row.agent_id).is_none_or(|held| held.version < row.version);
    let rows: Vec<&Endpoint> = rows.iter().filter(is_newer).collect();
    let overwrite = (
        endpoints::organisation.eq(excluded(endpoints::organisation)),
        endpoints::version.eq(excluded(endpoints::version)),
        endpoints::url.eq(excluded(endpoints::url)),
        endpoints::sealed_secret.eq(excluded(endpoints::sealed_secret)),
        endpoints::previous_sealed_secret.eq(excluded(endpoints::previous_sealed_secret)),
        endpoints::previous_until.eq(excluded(endpoints::previous_until)),
        endpoints::encrypt.eq(excluded(endpoints::encrypt)),
        endpoints::signature_only_hub.eq(excluded(endpoints::signature_only_hub)),
        endpoints::deleted.eq(excluded(endpoints::deleted)),
        endpoints::updated_at.eq(excluded(endpoints::updated_at)),
    );
    per_backend!(connection, c => diesel::insert_into(endpoints::table)
        .values(rows)
        .on_conflict(endpoints::agent_id)
        .do_update()
        .set(overwrite)
        .returning(endpoints::agent_id)
        .get_results(c))
}

/// Ends the pending and the held deliveries of these agents, whose documents are stored by now. One that waits for a
/// later version goes on waiting, unless its agent is gone, as [`Endpoint::fate`] has it; one that is being sent right
/// now is left to what comes of that.
fn discard(connection: &mut DbConnection, agents: &[i64], reason: DiscardReason, now: Timestamp) -> QueryResult<usize> {
    if agents.is_empty() {
        return Ok(0);
    }
    let held = endpoints::table.filter(endpoints::agent_id.eq(deliveries::agent_id)).select(endpoints::version);
    let gone = (reason == DiscardReason::AgentDeleted).into_sql::<Bool>();
    let awaits_no_later = deliveries::awaits_version.is_null().or(deliveries::awaits_version.le(held.single_value()));
    diesel::update(deliveries::table)
        .filter(deliveries::agent_id.eq_any(agents))
        .filter(undelivered())
        .filter(deliveries::status.eq_any([Status::Pending, Status::Held]))
        .filter(deliveries::to_alert_url.eq(false))
        .filter(deliveries::lease_owner.is_null())
        .filter(awaits_no_later.or(gone))
        .set((
            deliveries::status.eq(Status::Discarded),
            deliveries::reason.eq(Some(reason)),
            deliveries::due_at.eq(None::<Timestamp>),
            deliveries::settled_at.eq(Some(now)),
        ))
        .execute(connection)
}

/// Makes due what waited for these agents' endpoints: what was never tried is due at once unless it waits.
fn wake(connection: &mut DbConnection, agents: &[i64], now: Timestamp) -> QueryResult<bool> {
    if agents.is_empty() {
        return Ok(false);
    }
    let woken = diesel::update(deliveries::table)
        .filter(deliveries::agent_id.eq_any(agents))
        .filter(undelivered())
        .filter(deliveries::status.eq(Status::Pending))
        .filter(deliveries::delivery_attempts_made.eq(0))
        .filter(deliveries::to_alert_url.eq(false))
        .filter(deliveries::lease_owner.is_null())
        .set(deliveries::due_at.eq(Some(now)))
        .execute(connection)?;
    Ok(woken > 0)
}

/// The condition of the index `deliveries_undelivered`, word for word: SQLite takes the index for no other.
pub(super) fn undelivered() -> diesel::expression::SqlLiteral<Bool> {
    sql::<Bool>("status IN ('pending', 'held', 'exhausted')")
}
