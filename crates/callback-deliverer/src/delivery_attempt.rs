//! One delivery attempt from its lease to the entry that records it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use metrics::{counter, gauge, histogram};
use service_kit::database::Timestamp;
use service_kit::secrets::OpenError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::core::{Core, InHand};
use crate::outcome::Outcome;
use crate::schedule;
use crate::store::Leased;
use crate::store::record::{DeliveryAttempt, Entry, Verdict};
use crate::transport::Callback;
use crate::words::{OutcomeClass, Status};

/// How long until a delivery is looked at again whose secret needs a key that is missing.
const KEY_WAIT: TimeDelta = TimeDelta::seconds(10);

/// A delivery attempt that came to its end, with the slot that it keeps until that is recorded.
pub(crate) struct Finished {
    pub(crate) entry: Entry,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// Makes a delivery attempt and hands over what came of it.
pub(crate) async fn make(core: Arc<Core>, in_hand: InHand, finished: mpsc::Sender<Finished>) {
    let InHand { mut delivery, slot, leased_at } = in_hand;
    if !core.may_begin(leased_at) {
        tracing::warn!(delivery.id = delivery.id, "a lease came too late and is left to run out");
        return;
    }
    gauge!("carillon_deliveries_in_flight").increment(1);
    let (started_at, began) = (Timestamp::from(core.clock.now()), Instant::now());
    let outcome = try_once(&core, &mut delivery).await;
    let took = began.elapsed();
    gauge!("carillon_deliveries_in_flight").decrement(1);

    let entry = entry(&core, &delivery, started_at, took, outcome);
    report(&delivery, &entry);
    if entry.verdict == Verdict::Delivered {
        let since = (core.clock.now() - delivery.created_at).to_std().unwrap_or_default();
        histogram!("carillon_delivery_seconds").record(since);
    }
    // The recorder outlives every delivery attempt; if it is gone, so is the process.
    let _ = finished.send(Finished { entry, slot }).await;
}

/// None: a key is missing, so it could not even be tried.
async fn try_once(core: &Core, delivery: &mut Leased) -> Option<Outcome> {
    let secret = match core.secrets.open(delivery.agent_id, &delivery.target.sealed_secret) {
        Ok(secret) => secret,
        Err(OpenError::UnknownKey(_)) => return None,
        Err(error @ OpenError::Damaged) => {
            return Some(Outcome::failure(OutcomeClass::SecretUnreadable, &error.to_string()));
        }
    };
    let callback = Callback {
        webhook_id: delivery.webhook_id,
        url: &delivery.target.url,
        secret: secret.as_ref().map(|secret| secret.expose().as_slice()),
        body: std::mem::take(&mut delivery.body),
    };
    Some(core.transport.post(callback).await)
}

fn entry(core: &Core, delivery: &Leased, started_at: Timestamp, took: Duration, outcome: Option<Outcome>) -> Entry {
    let now = core.clock.now();
    let verdict = match &outcome {
        None => Verdict::Postponed(Timestamp::from(now + KEY_WAIT)),
        Some(outcome) if outcome.is_success() => Verdict::Delivered,
        Some(_) => match schedule::delay_after(u32::try_from(delivery.number).unwrap_or(u32::MAX), rand::random()) {
            Some(delay) => Verdict::RetryAt(Timestamp::from(now + delay)),
            None => Verdict::Exhausted,
        },
    };
    let outcome = outcome.unwrap_or_else(|| Outcome::failure(OutcomeClass::SecretUnreadable, "a key is missing"));
    let delivery_attempt = DeliveryAttempt {
        delivery_id: delivery.id,
        number: delivery.number,
        started_at,
        duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        outcome: outcome.class,
        http_status: outcome.http_status.map(i32::from),
        error: outcome.error,
        response_excerpt: outcome.response_excerpt,
    };
    Entry { delivery_attempt, verdict }
}

fn report(delivery: &Leased, entry: &Entry) {
    let made = &entry.delivery_attempt;
    let duration = Duration::from_millis(u64::try_from(made.duration_ms).unwrap_or(0));
    match entry.verdict {
        Verdict::Delivered => tracing::debug!(
            delivery.id, run.id = delivery.log_id, agent.id = delivery.agent_id, organisation = %delivery.organisation,
            delivery.attempt = made.number, duration_ms = made.duration_ms, "callback delivered"
        ),
        verdict => tracing::warn!(
            delivery.id, run.id = delivery.log_id, agent.id = delivery.agent_id, organisation = %delivery.organisation,
            delivery.attempt = made.number, duration_ms = made.duration_ms, outcome = %made.outcome,
            http.status = made.http_status, error = made.error, %verdict, "callback not delivered"
        ),
    }
    histogram!("carillon_delivery_attempt_seconds").record(duration);
}

/// Counts what was recorded.
pub(crate) fn count<'a>(recorded: impl Iterator<Item = &'a Entry>) {
    for entry in recorded {
        let settled = match entry.verdict {
            Verdict::Postponed(_) => continue,
            Verdict::RetryAt(_) => None,
            Verdict::Delivered => Some(Status::Delivered),
            Verdict::Exhausted => Some(Status::Exhausted),
        };
        counter!("carillon_delivery_attempts_total", "outcome" => entry.delivery_attempt.outcome.as_str()).increment(1);
        if let Some(status) = settled {
            counter!("carillon_deliveries_settled_total", "status" => status.as_str()).increment(1);
        }
    }
}
