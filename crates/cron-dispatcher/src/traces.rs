//! What the traces of runs say of the dispatcher: their ticks, their requests, their outcomes.
//!
//! All of it is recorded after the commit, or the confirm, that made it true.

use std::collections::HashMap;

use bus::Message;
use chrono::{DateTime, TimeDelta, Utc};
use model::event::EventKind;
use model::id::RunId;
use model::run::{Run, RunAnswer, RunReason, RunRequest};
use model::wire::Wire;
use service_kit::traces::{Kind, Place, Span};

use crate::context::{Context, NAME};
use crate::outcome::Ended;

/// A tick became a run, so much later than planned.
pub(crate) fn tick(context: &Context, run: &Run, late: TimeDelta) {
    context.traces.record(NAME, || {
        let time = (run.fire_time, run.fire_time + late);
        of_run(Span::new("tick", Kind::Internal, Place::tick(run.id), time), run)
            .with("run.trigger", run.trigger.as_str())
            .with("tick.nominal_time", run.nominal_time.to_rfc3339())
    });
}

/// Where the span of this run's next request is to be.
pub(crate) fn place_of_request(context: &Context, run: i64) -> Option<Place> {
    context.traces.is_on().then(|| Place::tick(RunId(run)).beside())
}

/// A request was confirmed by the bus.
pub(crate) fn requested(context: &Context, body: &[u8], place: Option<Place>, since: DateTime<Utc>) {
    let Some(place) = place else { return };
    let Ok(RunRequest { run, .. }) = RunRequest::decode(body) else { return };
    let time = (since, context.clock.now());
    context.traces.record(NAME, || {
        of_run(Span::new("request", Kind::Producer, place, time), &run)
            .under(Place::tick(run.id))
            .with("run.attempt", i64::from(run.run_attempt))
    });
}

/// Where the answers of these messages come from.
pub(crate) fn origins(context: &Context, batch: &[Message]) -> HashMap<RunId, Place> {
    if !context.traces.is_on() {
        return HashMap::new();
    }
    let answers = batch.iter().filter(|message| message.kind == EventKind::RunAnswered);
    let origin = |message: &Message| {
        let place = message.traceparent.as_deref().and_then(Place::parse)?;
        Some((RunAnswer::decode(&message.body).ok()?.run_id, place))
    };
    answers.filter_map(origin).collect()
}

/// How these ended. What no answer led to follows from the tick.
pub(crate) fn outcomes(context: &Context, ended: &[Ended], origins: &HashMap<RunId, Place>) {
    if !context.traces.is_on() {
        return;
    }
    let now = context.clock.now();
    for one in ended {
        let run = &one.run;
        let (tick, place) = (Place::tick(run.id), Place::outcome(run.id));
        // A runner may be of another's making: an answer that names another trace leads nowhere.
        let origin = origins.get(&run.id).filter(|origin| origin.trace_id() == tick.trace_id());
        context.traces.record(NAME, || {
            of_run(Span::new("outcome", Kind::Consumer, place, (one.ended_at, now)), run)
                .under(origin.copied().unwrap_or(tick))
                .with("run.attempt", i64::from(run.run_attempt))
                .with("run.status", one.state.as_str())
                .failed(one.reason.map(RunReason::as_str))
        });
    }
}

fn of_run(span: Span, run: &Run) -> Span {
    span.of_run(run.id, run.agent_id.0, run.organisation.as_str())
}
