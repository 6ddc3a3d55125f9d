//! One delivery attempt from its lease to the entry that records it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, gauge, histogram};
use model::id::RunId;
use service_kit::database::Timestamp;
use service_kit::secrets::OpenError;
use service_kit::traces::{Kind, Place, Span};
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::core::{Core, InHand, Lease, NAME};
use crate::lanes::Slot;
use crate::outcome::Outcome;
use crate::payload::PING;
use crate::schedule::{self, Failure};
use crate::secrets::KEY_WAIT;
use crate::store::Leased;
use crate::store::record::{DeliveryAttempt, Entry, Verdict};
use crate::store::states::EndpointState;
use crate::transport::Callback;
use crate::words::{DisableReason, OutcomeClass, Status};

/// A delivery attempt that came to its end, with the slot that it keeps until that is recorded.
pub(crate) struct Finished {
    pub(crate) entry: Entry,
    pub(crate) slot: Slot,
}

/// Makes a delivery attempt and hands over what came of it.
pub(crate) async fn make(core: Arc<Core>, in_hand: InHand, finished: mpsc::Sender<Finished>) {
    let place = place(&in_hand.delivery);
    // What is logged on the way says in which trace.
    let span = tracing::info_span!("delivery", trace_id = place.trace_id());
    make_at(place, core, in_hand, finished).instrument(span).await;
}

/// Of the result of a run, in the trace of that run, as all of its delivery attempts; anything else is a trace itself.
fn place(delivery: &Leased) -> Place {
    match delivery.log_id {
        Some(run) => Place::outcome(RunId(run)).beside(),
        None => Place::in_trace(delivery.webhook_id),
    }
}

async fn make_at(place: Place, core: Arc<Core>, in_hand: InHand, finished: mpsc::Sender<Finished>) {
    let InHand { mut delivery, lease } = in_hand;
    gauge!("carillon_deliveries_in_flight").increment(1);
    let (started_at, began) = (Timestamp::from(core.clock.now()), Instant::now());
    let tried =
        if core.may_begin(lease) { try_once(&core, &mut delivery, lease, place).await } else { given_back(&core) };
    let took = began.elapsed();
    gauge!("carillon_deliveries_in_flight").decrement(1);

    if let Ok(outcome) = &tried {
        learn(&core, &delivery, outcome);
        trace(&core, &delivery, place, started_at, outcome);
    }
    let entry = entry(&core, &delivery, lease, (started_at, took), tried);
    report(&delivery, &entry);
    if entry.verdict == Verdict::Delivered {
        let since = (core.clock.now() - delivery.created_at).to_std().unwrap_or_default();
        histogram!("carillon_delivery_seconds").record(since);
    }
    // The recorder outlives every delivery attempt; if it is gone, so is the process.
    let _ = finished.send(Finished { entry, slot: delivery.slot }).await;
}

/// It could not even be tried, which is nobody's fault.
struct NotTried {
    why: &'static str,
    look_again_at: DateTime<Utc>,
}

/// The lease is not ours any more, or not for long enough.
fn given_back(core: &Core) -> Result<Outcome, NotTried> {
    Err(NotTried { why: "this process stood still for too long", look_again_at: core.clock.now() })
}

async fn try_once(core: &Core, delivery: &mut Leased, lease: Lease, place: Place) -> Result<Outcome, NotTried> {
    let now = core.clock.now();
    let secrets = match core.secrets.open(&delivery.lane(), &delivery.target, now) {
        Ok(secrets) => secrets,
        Err(OpenError::UnknownKey(_)) => {
            return Err(NotTried { why: "a key is missing", look_again_at: now + KEY_WAIT });
        }
        Err(error @ OpenError::Damaged) => {
            return Ok(Outcome::failure(OutcomeClass::SecretUnreadable, &error.to_string()));
        }
    };
    let callback = Callback {
        webhook_id: delivery.webhook_id,
        place,
        url: &delivery.target.url,
        secrets: &secrets,
        encrypt: delivery.target.encrypt,
        signature_only_hub: delivery.target.signature_only_hub,
        now,
        body: std::mem::take(&mut delivery.body),
    };
    match core.transport.post(callback, || core.may_send(lease)).await {
        // Who stood still heard no answer, whatever the receiver said.
        Some(outcome) if outcome.http_status.is_some() || core.lasts(lease) => Ok(outcome),
        _ => given_back(core),
    }
}

/// The last span of a run's trace: the receiver's answer.
fn trace(core: &Core, delivery: &Leased, place: Place, started_at: Timestamp, outcome: &Outcome) {
    core.traces.record(NAME, || {
        let span = Span::new("callback", Kind::Client, place, (*started_at, core.clock.now()))
            .with("agent.id", delivery.agent_id)
            .with("organisation", delivery.organisation.clone())
            .with("delivery.id", delivery.id)
            .with("delivery.attempt", i64::from(delivery.number))
            .failed((!outcome.is_success()).then(|| outcome.class.as_str()));
        let span = match outcome.http_status {
            Some(status) => span.with("http.response.status_code", i64::from(status)),
            None => span,
        };
        match delivery.log_id {
            Some(run) => span.under(Place::outcome(RunId(run))).with("run.id", run),
            None => span,
        }
    });
}

/// What an outcome says of the receiver: room for more, or for less.
fn learn(core: &Core, delivery: &Leased, outcome: &Outcome) {
    let lane = delivery.lane();
    if outcome.is_overload() {
        if core.lanes.failed(&lane, core.clock.now()) {
            counter!("carillon_lanes_closed_total").increment(1);
            tracing::warn!(
                agent.id = delivery.agent_id, organisation = %delivery.organisation,
                "an endpoint does not answer: what is due for it waits for a moment"
            );
        }
    } else if outcome.http_status.is_some() {
        core.lanes.answered(&lane);
    }
}

fn entry(
    core: &Core,
    delivery: &Leased,
    lease: Lease,
    (started_at, took): (Timestamp, Duration),
    tried: Result<Outcome, NotTried>,
) -> Entry {
    let (verdict, outcome) = match tried {
        Ok(outcome) => (verdict(core, delivery, &outcome), outcome),
        // Its class is kept nowhere.
        Err(NotTried { why, look_again_at }) => {
            (Verdict::Postponed(look_again_at.into()), Outcome::failure(OutcomeClass::Timeout, why))
        }
    };
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
    let counts = !delivery.to_alert_url && delivery.event != PING && outcome.class != OutcomeClass::SecretUnreadable;
    let (organisation, target) = (delivery.organisation.clone(), delivery.target.clone());
    Entry { owner: lease.owner, delivery_attempt, verdict, agent_id: delivery.agent_id, organisation, target, counts }
}

/// A ping is made once: somebody is looking at what comes of it.
fn verdict(core: &Core, delivery: &Leased, outcome: &Outcome) -> Verdict {
    let now = core.clock.now();
    if outcome.is_success() {
        return Verdict::Delivered;
    }
    if delivery.event == PING {
        return Verdict::Exhausted;
    }
    if outcome.class == OutcomeClass::Gone && !delivery.to_alert_url {
        return Verdict::Held;
    }
    let failure = Failure {
        failures: u32::try_from(delivery.round_failures).unwrap_or(u32::MAX).saturating_add(1),
        round_began_at: delivery.round_began_at,
        failed_at: now,
        retry_after: outcome.retry_after,
    };
    let next = schedule::next_attempt_at(failure, rand::random());
    next.map_or(Verdict::Exhausted, |at| Verdict::RetryAt(at.into()))
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
            Verdict::Held => Some(Status::Held),
            Verdict::Exhausted => Some(Status::Exhausted),
        };
        counter!("carillon_delivery_attempts_total", "outcome" => entry.delivery_attempt.outcome.as_str()).increment(1);
        if let Some(status) = settled {
            count_settled(status, 1);
        }
    }
}

/// Counts deliveries that came to rest, once that is committed.
pub(crate) fn count_settled(status: Status, deliveries: usize) {
    counter!("carillon_deliveries_settled_total", "status" => status.as_str()).increment(deliveries as u64);
}

/// Tells of endpoints that have failed for long, or were disabled.
pub(crate) fn tell(told: &[(EndpointState, i32)]) {
    for (state, percent) in told {
        let (agent, organisation, since) = (state.agent_id, &state.organisation, state.failing_since.to_rfc3339());
        counter!("carillon_endpoint_warnings_total", "percent" => percent.to_string()).increment(1);
        if state.disabled_at.is_some() {
            tracing::warn!(
                agent.id = agent,
                organisation,
                failing_since = since,
                failures = state.failures,
                reason = state.disabled_reason.map(DisableReason::as_str),
                "an endpoint was disabled: its deliveries are held until somebody enables it"
            );
        } else {
            tracing::warn!(
                agent.id = agent,
                organisation,
                failing_since = since,
                failures = state.failures,
                percent,
                "an endpoint has been failing for much of the time after which it is disabled"
            );
        }
    }
}
