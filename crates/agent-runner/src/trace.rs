//! What a run's trace says of the runner: the run, its mentor being asked, its services being called, its answer.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::run::Run;
use service_kit::clock::Clock;
use service_kit::traces::{Kind, Place, Span, Traces};

use crate::NAME;

/// A piece of work that has begun, and where it is in its run's trace. Nothing, unless traces are wanted. Clones are the
/// same one.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Here>>);

struct Here {
    traces: Traces,
    clock: Clock,
    run: Run,
    parent: Place,
    place: Place,
    began_at: DateTime<Utc>,
}

impl Trace {
    /// A run that begins now, requested from where `came` says.
    pub(crate) fn of_run(traces: &Traces, clock: &Clock, run: &Run, came: Option<&str>) -> Self {
        if !traces.is_on() {
            return Self(None);
        }
        let parent = came.and_then(Place::parse).unwrap_or_else(|| Place::tick(run.id));
        Self(Some(Arc::new(Here {
            traces: traces.clone(),
            clock: clock.clone(),
            run: run.clone(),
            parent,
            place: parent.beside(),
            began_at: clock.now(),
        })))
    }

    /// A part of it that begins now.
    pub(crate) fn child(&self) -> Self {
        Self(self.0.as_ref().map(|here| {
            Arc::new(Here {
                traces: here.traces.clone(),
                clock: here.clock.clone(),
                run: here.run.clone(),
                parent: here.place,
                place: here.place.beside(),
                began_at: here.clock.now(),
            })
        }))
    }

    /// What whoever is asked or told is to go on from.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.0.as_ref().map(|here| here.place.traceparent())
    }

    /// It ends now; `more` adds what there is to say of it.
    pub(crate) fn end(&self, name: &'static str, kind: Kind, more: impl FnOnce(Span) -> Span) {
        let Some(here) = &self.0 else { return };
        here.traces.record(NAME, || {
            let Run { id, agent_id, organisation, run_attempt, .. } = &here.run;
            let span = Span::new(name, kind, here.place, (here.began_at, here.clock.now())).under(here.parent);
            more(span.of_run(*id, agent_id.0, organisation.as_str()).with("run.attempt", i64::from(*run_attempt)))
        });
    }
}
