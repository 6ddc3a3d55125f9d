//! Forgetting: what is settled, and endpoints that are gone.

use std::collections::HashMap;

use chrono::TimeDelta;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use crate::schema::{deliveries, endpoints, organisations, replays};

/// The most organisations that a step looks at.
const ORGANISATIONS_MAX: usize = 500;

/// How far a walk has come, which looks at each organisation for what is kept no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The next step begins behind this organisation; empty: at the first.
    pub(crate) after: String,
}

impl Walk {
    /// One step of it: forgets deliveries that were settled longer ago than they are kept, of each organisation the
    /// longest first, at most `limit` in all. Their bodies and delivery attempts go with them. Returns how many that
    /// was.
    ///
    /// It goes from organisation to organisation along the index `deliveries_settled`: what is kept is not read.
    pub(crate) fn step(
        &mut self,
        connection: &mut DbConnection,
        now: Timestamp,
        kept: TimeDelta,
        limit: i64,
    ) -> QueryResult<i64> {
        let own: HashMap<String, Option<i32>> = organisations::table
            .filter(organisations::deliveries_days.is_not_null())
            .select((organisations::organisation, organisations::deliveries_days))
            .load(connection)?
            .into_iter()
            .collect();
        let mut forgotten = 0;
        for _ in 0..ORGANISATIONS_MAX {
            let Some((organisation, longest)) = next_settled(connection, &self.after)? else {
                self.after.clear();
                break;
            };
            let own = own.get(&organisation).copied().flatten();
            let before = Timestamp::from(*now - own.map_or(kept, |days| TimeDelta::days(days.into())));
            if longest.is_some_and(|settled_at| settled_at <= before) {
                forgotten += forget(connection, &organisation, before, limit - forgotten)?;
            }
            // The last one may have more.
            if forgotten >= limit {
                break;
            }
            self.after = organisation;
        }
        Ok(forgotten)
    }

    /// Whether it came to the last organisation.
    pub(crate) fn is_through(&self) -> bool {
        self.after.is_empty()
    }
}

/// The first organisation after that one of which something is settled, and when the longest was.
fn next_settled(connection: &mut DbConnection, after: &str) -> QueryResult<Option<(String, Option<Timestamp>)>> {
    deliveries::table
        .filter(deliveries::settled_at.is_not_null())
        .filter(deliveries::organisation.gt(after))
        .order((deliveries::organisation, deliveries::settled_at))
        .select((deliveries::organisation, deliveries::settled_at))
        .first(connection)
        .optional()
}

fn forget(connection: &mut DbConnection, organisation: &str, before: Timestamp, limit: i64) -> QueryResult<i64> {
    let settled: Vec<i64> = deliveries::table
        .filter(deliveries::settled_at.le(Some(before)))
        .filter(deliveries::organisation.eq(organisation))
        .order(deliveries::settled_at)
        .limit(limit)
        .select(deliveries::id)
        .load(connection)?;
    // What was replayed meanwhile is on its way again.
    let forgotten = diesel::delete(deliveries::table)
        .filter(deliveries::id.eq_any(&settled))
        .filter(deliveries::settled_at.le(Some(before)))
        .execute(connection)?;
    Ok(i64::try_from(forgotten).unwrap_or(limit))
}

/// Forgets replays that were finished by `before`.
pub(crate) fn forget_replays(connection: &mut DbConnection, before: Timestamp) -> QueryResult<usize> {
    diesel::delete(replays::table.filter(replays::finished_at.le(Some(before)))).execute(connection)
}

/// Forgets at most `limit` endpoints whose agents were deleted by `before`.
pub(crate) fn forget_tombstones(connection: &mut DbConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let gone: Vec<i64> = endpoints::table
        .filter(endpoints::deleted)
        .filter(endpoints::updated_at.le(before))
        .order(endpoints::updated_at)
        .limit(limit)
        .select(endpoints::agent_id)
        .load(connection)?;
    if gone.is_empty() {
        return Ok(0);
    }
    diesel::delete(endpoints::table.filter(endpoints::agent_id.eq_any(&gone))).execute(connection)
}
