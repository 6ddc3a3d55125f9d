//! How the ticks of an agent are kept and what its endpoint is told: what a request says, applied to what is stored,
//! and which of it cannot go together.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::DateTime;
use model::document::{
    CallbackOn, CatchUp, DEFAULT_CATCH_UP_WINDOW, Endpoint, OverlapPolicy, PreviousSecret, Schedule,
};
use service_kit::database::Timestamp;

use crate::store::agents::AgentRow;
use crate::validation::agent::{AgentInput, SecretChange};
use crate::validation::fields::Faults;
use crate::validation::policy::{EndpointInput, PolicyInput};

/// How long a run may take where nobody says.
pub(crate) const TIMEOUT_SECONDS: i32 = 600;

/// What cannot be meant together, the field that is to be changed, and why.
type Contradiction = (fn(&AgentRow) -> bool, &'static str, &'static str);

const CONTRADICTIONS: [Contradiction; 3] = [
    (
        |row| row.one_off && row.catch_up == CatchUp::None.as_str(),
        "task.catch_up",
        "A `one_off` runs however late it is, for else it would never: \"none\" cannot be meant.",
    ),
    (
        |row| row.previous_agent_id.is_some() && row.catch_up != CatchUp::Latest.as_str(),
        "task.catch_up",
        "With a `previous_agent` it runs once when that one has, however late: only \"latest\" can be meant.",
    ),
    (
        |row| row.previous_agent_id.is_some() && row.jitter_seconds > 0,
        "task.jitter_seconds",
        "With a `previous_agent` it runs when that one has: there are no ticks to spread.",
    ),
];

/// Notes what a request brings together that contradicts itself. What was stored so is no reason to refuse another edit.
pub(crate) fn check_together(before: Option<&AgentRow>, row: &AgentRow, faults: &Faults) {
    for (contradicts, field, why) in CONTRADICTIONS {
        if contradicts(row) && !before.is_some_and(contradicts) {
            faults.add(field, why);
        }
    }
}

/// Writes over a row what the request says, and notes what cannot be meant together.
pub(crate) fn apply(row: &mut AgentRow, input: &AgentInput, faults: &Faults) {
    apply_schedule(row, &input.task.policy, faults);
    apply_endpoint(row, &input.endpoint);
    check_secret(row, input, faults);
}

fn apply_schedule(row: &mut AgentRow, policy: &PolicyInput, faults: &Faults) {
    if let Some(end_time) = policy.end_time {
        row.end_time = end_time.map(Timestamp::from);
    }
    if let Some(overlap) = policy.overlap_policy {
        row.overlap_policy = overlap.unwrap_or_default().to_string();
    }
    if let Some(catch_up) = policy.catch_up {
        row.catch_up = catch_up.unwrap_or_default().to_string();
    }
    row.catch_up_window_seconds = policy.catch_up_window_seconds.unwrap_or(row.catch_up_window_seconds);
    if row.catch_up == CatchUp::None.as_str() {
        if policy.catch_up_window_seconds.flatten().is_some() {
            faults.add("task.catch_up_window_seconds", "Nothing is caught up with `catch_up` \"none\": leave it out.");
        }
        row.catch_up_window_seconds = None;
    }
    row.jitter_seconds = policy.jitter_seconds.map_or(row.jitter_seconds, Option::unwrap_or_default);
    row.max_attempts = policy.max_attempts.map_or(row.max_attempts, |attempts| attempts.unwrap_or(1));
    row.timeout_seconds =
        policy.timeout_seconds.map_or(row.timeout_seconds, |seconds| seconds.unwrap_or(TIMEOUT_SECONDS));
}

fn apply_endpoint(row: &mut AgentRow, endpoint: &EndpointInput) {
    if let Some(CallbackOn { runs, skipped }) = endpoint.callback_on {
        (row.callback_on_runs, row.callback_on_skipped) = (runs, skipped);
    }
    row.callback_encrypt = endpoint.encrypt.unwrap_or(row.callback_encrypt);
    row.callback_signature_only_hub = endpoint.signature_only_hub.unwrap_or(row.callback_signature_only_hub);
}

/// Encryption and signature are made with the secret: without one they cannot be meant.
fn check_secret(row: &AgentRow, input: &AgentInput, faults: &Faults) {
    let has_secret = match input.callback_secret {
        SecretChange::Keep => row.sealed_callback_secret.is_some(),
        SecretChange::Remove => false,
        SecretChange::Set(_) => true,
    };
    let options = [("encrypt", row.callback_encrypt), ("signature_only_hub", row.callback_signature_only_hub)];
    for (option, _) in options.into_iter().filter(|(_, on)| *on && !has_secret) {
        match input.callback_secret {
            SecretChange::Remove => {
                faults.add("callback_secret", format!("`callback_options.{option}` needs it: turn that off first."));
            }
            _ => faults.add(&format!("callback_options.{option}"), "Needs a `callback_secret`."),
        }
    }
}

/// How far back a missed tick is made good, by an agent's own words; none where nothing is caught up.
pub(crate) fn catch_up_window(catch_up: &str, own_seconds: Option<i32>) -> Option<Duration> {
    (catch_up != CatchUp::None.as_str()).then(|| own_seconds.map_or(DEFAULT_CATCH_UP_WINDOW, seconds))
}

/// What the dispatcher is told of an agent's schedule.
pub(crate) fn schedule_of(row: &AgentRow) -> Schedule {
    Schedule {
        timing_version: row.timing_version,
        crontab: row.crontab(),
        timezone: row.timezone.as_deref().and_then(|name| name.parse().ok()),
        enabled: row.enabled,
        one_off: row.one_off,
        start_time: row.start_time.map(DateTime::from),
        timeout: seconds(row.timeout_seconds),
        end_time: row.end_time.map(DateTime::from),
        jitter: seconds(row.jitter_seconds),
        // Only words of these sets are ever stored.
        overlap: row.overlap_policy.parse().unwrap_or(OverlapPolicy::Allow),
        catch_up: row.catch_up.parse().unwrap_or(CatchUp::Latest),
        catch_up_window: catch_up_window(&row.catch_up, row.catch_up_window_seconds).unwrap_or(DEFAULT_CATCH_UP_WINDOW),
        max_attempts: u32::try_from(row.max_attempts).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
    }
}

/// What the deliverer is told of an agent's endpoint, if there is one.
pub(crate) fn endpoint_of(row: &AgentRow) -> Option<Endpoint> {
    let previous = row.sealed_previous_secret.clone().zip(row.previous_secret_until);
    let endpoint = Endpoint {
        previous_secret: previous.map(|(sealed, until)| PreviousSecret { sealed, until: until.into() }),
        encrypt: row.callback_encrypt,
        signature_only_hub: row.callback_signature_only_hub,
        callback_on: CallbackOn { runs: row.callback_on_runs, skipped: row.callback_on_skipped },
        ..Endpoint::new(row.callback_url.clone(), row.sealed_callback_secret.clone().unwrap_or_default())
    };
    (!row.callback_url.is_empty()).then_some(endpoint)
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}
