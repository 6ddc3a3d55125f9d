//! How many requests a minute an organisation may make of this replica.
//!
//! In memory: after a restart everyone begins with a full minute, and with several replicas the limit is that of each.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use service_kit::clock::Clock;
use service_kit::error::ApiError;

use super::recent::Recent;
use crate::state::State;
use crate::store::organisations;

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticker, NoOpMiddleware<Nanos>>;

/// The limits of organisations that were here, and how much of them is used.
pub(crate) struct RequestLimits {
    ticker: Ticker,
    /// What each organisation may do, as seen a moment ago.
    pub(super) recent: Recent<String, Option<NonZeroU32>>,
    limiters: Mutex<HashMap<String, (NonZeroU32, Limiter)>>,
}

/// Our clock, as the library sees it.
#[derive(Debug, Clone)]
struct Ticker {
    clock: Clock,
    start: DateTime<Utc>,
}

impl GovernorClock for Ticker {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from((self.clock.now() - self.start).to_std().unwrap_or_default())
    }
}

impl RequestLimits {
    pub(crate) fn new(clock: Clock) -> Self {
        let ticker = Ticker { start: clock.now(), clock };
        Self { ticker, recent: Recent::default(), limiters: Mutex::default() }
    }

    /// Forgets what was seen: a limit changed.
    pub(crate) fn changed(&self) {
        self.recent.clear();
    }

    /// Counts a request, or says how long to wait.
    fn take(&self, organisation: &str, per_minute: NonZeroU32) -> Result<(), Duration> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || (per_minute, RateLimiter::direct_with_clock(Quota::per_minute(per_minute), self.ticker.clone()));
        let entry = limiters.entry(organisation.to_owned()).or_insert_with(fresh);
        if entry.0 != per_minute {
            *entry = fresh();
        }
        entry.1.check().map_err(|refused| refused.wait_time_from(self.ticker.now()))
    }
}

/// Lets a request of an organisation through, or answers 429.
pub(super) async fn check(state: &State, organisation: &str) -> Result<(), ApiError> {
    let now = state.clock.now();
    let per_minute = match state.request_limits.recent.get(&organisation.to_owned(), now) {
        Ok(known) => known,
        Err(asked) => {
            let key = organisation.to_owned();
            let found = state.db.read(move |conn| Ok::<_, ApiError>(organisations::requests_per_minute(conn, &key)?));
            let limit = found.await?.and_then(|limit| NonZeroU32::new(limit.unsigned_abs()));
            state.request_limits.recent.put(asked, organisation.to_owned(), limit, now);
            limit
        }
    };
    let Some(per_minute) = per_minute else { return Ok(()) };
    state.request_limits.take(organisation, per_minute).map_err(|wait| {
        metrics::counter!("carillon_registry_requests_limited_total").increment(1);
        ApiError::throttled(wait)
    })
}
