//! The prober: whether the endpoints of services are there.
//!
//! A probe is one `OPTIONS`, without credentials: it is safe by definition, and most servers answer it for a path that
//! they have whatever its methods are, while `HEAD` brings 404 from many that know `POST` alone. A service is there if
//! something answers below 500, but neither with a redirect, which calls do not follow, nor that nothing is there
//! (404, 410). A probe's connection ends with it: kept until the next one, there would be one to every endpoint.
//!
//! Each endpoint is probed every 60 s ± 10 %; one that fails less and less often, down to every 16 minutes, and then a
//! failed probe counts for each minute since the one before it, as the share of time would otherwise look better the
//! longer a service is away. No more than a few probes go to one origin at a time: what else is due there is not looked
//! at until one of them ends. Every replica probes: who claims an endpoint has it for a minute. A crash leaves those in
//! hand due again after that, with nothing counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use reqwest::Method;
use reqwest::StatusCode;
use service_kit::database::{DatabaseError, DbConnection, Timestamp};
use service_kit::egress::GuardedClient;
use service_kit::error::chain;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::State;
use crate::store::numbers::Counts;
use crate::store::probes::{self, Probe};

/// Between two probes of an endpoint that is there, before jitter.
const INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// The longest wait of one that is not, in intervals.
const BACK_OFF_MAX: i64 = 16;
/// How much of a wait is left to chance, either way.
const JITTER: f64 = 0.1;
/// The longest that a probe may take, the search for the endpoint's addresses too.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The guarded client's own limit on a probe: only a backstop, longer than ours.
pub(crate) const BACKSTOP: Duration = Duration::from_secs(30);
/// How long a replica has an endpoint that it claimed.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// Most probes at a time in this process, and most of them at one origin.
const PROBES_MAX: usize = 32;
const ORIGIN_MAX: usize = 4;
/// Until the next try after a failure of ours.
const LATER: TimeDelta = TimeDelta::seconds(5);
/// With nothing due, how long until a look: what another replica left behind tells nobody.
const LOOK: TimeDelta = TimeDelta::seconds(60);

/// Probes until `shutdown`.
pub(crate) async fn run(state: Arc<State>, client: GuardedClient, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut probing: JoinSet<String> = JoinSet::new();
    let mut places = Places::default();
    loop {
        let look_at = match begin(&state, &client, &mut probing, &mut places).await {
            Ok(look_at) => look_at,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "services were not probed, trying again");
                state.clock.now() + LATER
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = probing.join_next() => {
                // One that panicked holds its place at its origin, which is a defect and not forgotten.
                places.leave(&ended?);
            }
            () = state.endpoints_changed.notified() => {}
            () = state.clock.sleep_until(look_at), if places.free() > 0 => {}
        }
    }
}

/// The probes under way.
#[derive(Clone, Default)]
struct Places {
    /// How many there are at each origin.
    taken: HashMap<String, usize>,
}

impl Places {
    /// How many more there may be.
    fn free(&self) -> usize {
        PROBES_MAX - self.taken.values().sum::<usize>()
    }

    /// Where there may be no more.
    fn full_origins(&self) -> Vec<String> {
        let full = self.taken.iter().filter(|(_, count)| **count >= ORIGIN_MAX);
        full.map(|(origin, _)| origin.clone()).collect()
    }

    /// One more, if there may be one more there.
    fn take(&mut self, origin: &str) -> bool {
        let count = self.taken.entry(origin.to_owned()).or_default();
        let free = *count < ORIGIN_MAX;
        *count += usize::from(free);
        free
    }

    /// One less.
    fn leave(&mut self, origin: &str) {
        if let Some(count) = self.taken.get_mut(origin) {
            *count -= 1;
            if *count == 0 {
                self.taken.remove(origin);
            }
        }
    }
}

/// Begins what is due and finds a place. Returns when to look again.
async fn begin(
    state: &Arc<State>,
    client: &GuardedClient,
    probing: &mut JoinSet<String>,
    places: &mut Places,
) -> Result<DateTime<Utc>, DatabaseError> {
    let now = state.clock.now();
    if places.free() == 0 {
        return Ok(now + LOOK);
    }
    let lease = Timestamp::from(now + LEASE);
    let before = places.clone();
    let claimed = state.db.write(move |conn| {
        let (claimed, places) = claim(conn, before, now.into(), lease)?;
        let next_due = probes::next_due(conn, &places.full_origins())?;
        Ok::<_, DatabaseError>((claimed, places, next_due))
    });
    let (claimed, taken, next_due) = claimed.await?;
    *places = taken;
    for probe in claimed {
        let (state, client) = (Arc::clone(state), client.clone());
        probing.spawn(async move {
            let origin = probe.origin.clone();
            look_at(&state, &client, &probe, lease).await;
            origin
        });
    }
    Ok(next_due.map_or(now + LOOK, |due| (*due).min(now + LOOK)))
}

/// Takes what is due and finds a place, with the places then.
fn claim(
    conn: &mut DbConnection,
    mut places: Places,
    now: Timestamp,
    lease: Timestamp,
) -> QueryResult<(Vec<Probe>, Places)> {
    let mut claimed = Vec::new();
    // What found no place has its origin full now, and is not found again.
    loop {
        let mut due = probes::lock_due(conn, now, &places.full_origins(), places.free() as i64)?;
        if due.is_empty() {
            return Ok((claimed, places));
        }
        due.retain(|probe| places.take(&probe.origin));
        probes::lease(conn, &due, lease)?;
        claimed.append(&mut due);
    }
}

async fn look_at(state: &State, client: &GuardedClient, probe: &Probe, lease: Timestamp) {
    let is_there = tokio::select! {
        is_there = is_there(client, &probe.endpoint) => is_there,
        () = state.clock.sleep(TIMEOUT) => false,
    };
    metrics::counter!("carillon_service_probes_total", "outcome" => if is_there { "succeeded" } else { "failed" })
        .increment(1);
    let now = state.clock.now();
    let (failures, counts) = if is_there {
        (0, Counts { probes_succeeded: 1, ..Counts::default() })
    } else {
        (probe.failures + 1, Counts { probes_failed: intervals_after(probe.failures), ..Counts::default() })
    };
    let due = Timestamp::from(now + wait_after(failures, rand::random()));
    let probe = probe.clone();
    let recorded = state.db.write(move |conn| {
        Ok::<_, DatabaseError>(probes::record(conn, &probe, lease, (failures, due), (counts, now))?)
    });
    if let Err(error) = recorded.await {
        tracing::warn!(error = %chain(&error), "a probe was not recorded, its endpoint is probed again");
    }
}

/// Whether something answers there that a run could call.
async fn is_there(client: &GuardedClient, endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    let Ok(request) = client.vetted_request(Method::OPTIONS, &url).await else { return false };
    let Ok(answer) = request.send().await else { return false };
    let status = answer.status();
    let absent = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    !(status.is_server_error() || status.is_redirection() || absent)
}

/// The wait after so many failures, in intervals.
fn intervals_after(failures: i64) -> i64 {
    let doublings = u32::try_from((failures - 1).clamp(0, 30)).unwrap_or_default();
    2_i64.pow(doublings).min(BACK_OFF_MAX)
}

/// The same with its jitter; `chance` is from 0 to 1.
fn wait_after(failures: i64, chance: f64) -> TimeDelta {
    let milliseconds = (INTERVAL.num_milliseconds() * intervals_after(failures)) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "at most some minutes")]
    TimeDelta::milliseconds((milliseconds * (1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_a_minute_and_double_with_failures_up_to_sixteen_give_or_take_a_tenth() {
        let seconds = |failures, chance| wait_after(failures, chance).num_seconds();
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 1_000].map(|failures| seconds(failures, 0.5)),
            [60, 60, 120, 240, 480, 960, 960, 960]
        );
        assert_eq!((seconds(0, 0.0), seconds(0, 1.0)), (54, 66));
    }
}
