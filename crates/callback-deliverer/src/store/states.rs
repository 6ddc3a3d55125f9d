//! How well endpoints are. One that is well has no row here, so that a success of a healthy endpoint writes nothing.
//!
//! An endpoint is failing from its first failure until something arrives. After [`DISABLE_AFTER`] of failures only, at
//! the next failure, it is disabled, and at once when its receiver says 410; at 50, 70 and 90 % of that time its
//! organisation is warned. What is due for a disabled endpoint is held until somebody enables it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use crate::schema::{deliveries, endpoint_states};
use crate::words::{DisableReason, OutcomeClass, Status};

/// How long an endpoint may fail without a single success.
pub(crate) const DISABLE_AFTER: TimeDelta = TimeDelta::hours(120);
/// The shares of that time at which a warning is given.
const WARN_PERCENT: [i32; 3] = [90, 70, 50];
/// What stands for the last warning: that it is disabled.
pub(crate) const DISABLED_PERCENT: i32 = 100;

/// An endpoint that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = endpoint_states, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct EndpointState {
    pub(crate) agent_id: i64,
    pub(crate) organisation: String,
    pub(crate) failing_since: Timestamp,
    pub(crate) failures: i64,
    pub(crate) last_failure_at: Timestamp,
    pub(crate) last_outcome: OutcomeClass,
    pub(crate) warned_percent: i32,
    pub(crate) disabled_at: Option<Timestamp>,
    pub(crate) disabled_reason: Option<DisableReason>,
}

/// Failures of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Failures {
    pub(crate) organisation: String,
    pub(crate) count: i64,
    pub(crate) last: OutcomeClass,
    pub(crate) gone: bool,
}

impl EndpointState {
    /// The state after more failures, and what is to be told of it: a new share of the time, if one was reached.
    fn after(held: Option<&Self>, agent_id: i64, failures: &Failures, now: Timestamp) -> (Self, Option<i32>) {
        let mut state = held.cloned().unwrap_or_else(|| Self {
            agent_id,
            organisation: failures.organisation.clone(),
            failing_since: now,
            failures: 0,
            last_failure_at: now,
            last_outcome: failures.last,
            warned_percent: 0,
            disabled_at: None,
            disabled_reason: None,
        });
        state.failures += failures.count;
        (state.last_failure_at, state.last_outcome) = (now, failures.last);
        if state.disabled_at.is_some() {
            return (state, None);
        }
        let failing_for = *now - *state.failing_since;
        if failures.gone || failing_for >= DISABLE_AFTER {
            state.disabled_at = Some(now);
            state.disabled_reason = Some(if failures.gone { DisableReason::Gone } else { DisableReason::Failing });
            state.warned_percent = DISABLED_PERCENT;
            return (state, Some(DISABLED_PERCENT));
        }
        let reached = WARN_PERCENT.into_iter().find(|percent| failing_for >= DISABLE_AFTER * *percent / 100);
        let reached = reached.filter(|percent| *percent > state.warned_percent);
        state.warned_percent = reached.unwrap_or(state.warned_percent);
        (state, reached)
    }

    /// When it is disabled at the earliest, if nothing arrives.
    pub(crate) fn disabled_from(&self) -> DateTime<Utc> {
        self.disabled_at.map_or(*self.failing_since + DISABLE_AFTER, |at| *at)
    }
}

/// The states of those of these agents' endpoints that are not well.
pub(crate) fn of_agents(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<HashMap<i64, EndpointState>> {
    let rows: Vec<EndpointState> = endpoint_states::table
        .filter(endpoint_states::agent_id.eq_any(agents))
        .select(EndpointState::as_select())
        .load(connection)?;
    Ok(rows.into_iter().map(|row| (row.agent_id, row)).collect())
}

/// The first `limit` endpoints of all that are not well, failing longest first.
pub(crate) fn not_well(connection: &mut DbConnection, limit: i64) -> QueryResult<Vec<EndpointState>> {
    endpoint_states::table
        .order((endpoint_states::failing_since, endpoint_states::agent_id))
        .limit(limit)
        .select(EndpointState::as_select())
        .load(connection)
}

/// Something arrived: these endpoints are well, unless somebody has to enable them. For those that were well it takes no
/// lock.
pub(crate) fn arrived(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<()> {
    let failing: Vec<i64> = endpoint_states::table
        .filter(endpoint_states::agent_id.eq_any(agents))
        .filter(endpoint_states::disabled_at.is_null())
        .select(endpoint_states::agent_id)
        .load(connection)?;
    if failing.is_empty() {
        return Ok(());
    }
    lock(connection)?;
    diesel::delete(endpoint_states::table)
        .filter(endpoint_states::agent_id.eq_any(failing))
        .filter(endpoint_states::disabled_at.is_null())
        .execute(connection)?;
    Ok(())
}

/// Counts failures, and disables what has to be; what is due for a disabled endpoint is held from now on. Returns the
/// states of which something is to be told, with the share of the time that was reached.
pub(crate) fn failed(
    connection: &mut DbConnection,
    failures: &BTreeMap<i64, Failures>,
    now: Timestamp,
) -> QueryResult<Vec<(EndpointState, i32)>> {
    lock(connection)?;
    let mut told = Vec::new();
    let agents: Vec<i64> = failures.keys().copied().collect();
    let held = of_agents(connection, &agents)?;
    for (agent_id, failures) in failures {
        let (state, reached) = EndpointState::after(held.get(agent_id), *agent_id, failures, now);
        store(connection, &state)?;
        if reached == Some(DISABLED_PERCENT) {
            hold(connection, *agent_id)?;
        }
        told.extend(reached.map(|percent| (state, percent)));
    }
    Ok(told)
}

/// Who changes states, does so alone until the end of his transaction: else two could disable the same endpoint, and tell
/// it twice, one could count on for an endpoint that is just being enabled, or two could wait for each other. Taken
/// before the first change. PostgreSQL only; SQLite has one writer at a time.
fn lock(connection: &mut DbConnection) -> QueryResult<()> {
    let DbConnection::Postgres(connection) = connection else { return Ok(()) };
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection)?;
    Ok(())
}

/// The key of [`lock`]: `failures` in ASCII.
const LOCK: i64 = 0x6661_696c_7572_6573;

/// Of two replicas that count at once, the one that began to fail earlier and what is disabled win.
fn store(connection: &mut DbConnection, state: &EndpointState) -> QueryResult<()> {
    let overwrite = (
        endpoint_states::failures.eq(excluded(endpoint_states::failures)),
        endpoint_states::last_failure_at.eq(excluded(endpoint_states::last_failure_at)),
        endpoint_states::last_outcome.eq(excluded(endpoint_states::last_outcome)),
        endpoint_states::warned_percent.eq(excluded(endpoint_states::warned_percent)),
        endpoint_states::disabled_at.eq(excluded(endpoint_states::disabled_at)),
        endpoint_states::disabled_reason.eq(excluded(endpoint_states::disabled_reason)),
    );
    use diesel::query_dsl::methods::FilterDsl;
    per_backend!(connection, c => diesel::insert_into(endpoint_states::table)
        .values(state)
        .on_conflict(endpoint_states::agent_id)
        .do_update()
        .set(overwrite)
        .filter(endpoint_states::disabled_at.is_null().or(excluded(endpoint_states::disabled_at).is_not_null()))
        .execute(c))?;
    Ok(())
}

/// Holds what is pending for an endpoint; what is being sent right now is left to what comes of that.
fn hold(connection: &mut DbConnection, agent_id: i64) -> QueryResult<usize> {
    diesel::update(deliveries::table)
        .filter(deliveries::agent_id.eq(agent_id))
        .filter(super::endpoints::undelivered())
        .filter(deliveries::status.eq(Status::Pending))
        .filter(deliveries::lease_owner.is_null())
        .filter(deliveries::to_alert_url.eq(false))
        .filter(deliveries::event.ne(crate::payload::PING))
        .set((deliveries::status.eq(Status::Held), deliveries::due_at.eq(None::<Timestamp>)))
        .execute(connection)
}

/// Enables the endpoints of these agents, whatever their state: they count as well.
pub(crate) fn enable(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<usize> {
    if agents.is_empty() {
        return Ok(0);
    }
    lock(connection)?;
    diesel::delete(endpoint_states::table.filter(endpoint_states::agent_id.eq_any(agents))).execute(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Timestamp {
        "2026-03-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap().into()
    }

    fn failures(gone: bool) -> Failures {
        Failures { organisation: "acme".into(), count: 1, last: OutcomeClass::Timeout, gone }
    }

    fn after(state: Option<&EndpointState>, hours: i64) -> (EndpointState, Option<i32>) {
        let now = Timestamp::from(*noon() + TimeDelta::hours(hours));
        EndpointState::after(state, 7, &failures(false), now)
    }

    #[test]
    fn each_share_of_the_time_is_told_once_and_the_end_of_it_disables() {
        let (mut state, told) = after(None, 0);
        assert_eq!((told, state.failing_since), (None, noon()));
        for (hours, expected) in [
            (59, None),
            (60, Some(50)),
            (61, None),
            (84, Some(70)),
            (107, None),
            (108, Some(90)),
            (119, None),
            (120, Some(100)),
            (130, None),
        ] {
            let (next, told) = after(Some(&state), hours);
            assert_eq!(told, expected, "{hours} h");
            state = next;
        }
        assert_eq!((state.disabled_reason, state.failures), (Some(DisableReason::Failing), 10));
        assert_eq!(state.disabled_from(), *noon() + TimeDelta::hours(120));
    }

    #[test]
    fn a_share_that_was_passed_over_is_not_told_later() {
        let (state, _) = after(None, 0);
        let (state, told) = after(Some(&state), 110);
        assert_eq!((told, state.warned_percent), (Some(90), 90));
    }

    #[test]
    fn a_receiver_that_is_gone_is_disabled_at_once() {
        let (state, told) = EndpointState::after(None, 7, &failures(true), noon());
        assert_eq!((told, state.disabled_reason), (Some(100), Some(DisableReason::Gone)));
    }
}
