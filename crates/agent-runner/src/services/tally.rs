//! What a run attempt did with the services that it was offered, as far as it got.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use model::run::Run;
use model::service::{CallFailure, ServiceCall, ServiceInvocation, ServicesInvoked};
use service_kit::clock::Clock;
use uuid::Uuid;

/// Counts, also what was cut off.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Vec<ServiceInvocation>>);

/// A call that is under way. Dropped without an end, it ended with its run.
pub(super) struct Begun {
    tally: Arc<Tally>,
    index: usize,
    clock: Clock,
    at: DateTime<Utc>,
    ended: bool,
}

impl Tally {
    /// These are offered, in this order.
    pub(super) fn offered(&self, services: impl Iterator<Item = Uuid>) {
        self.lock().extend(services.map(|service| ServiceInvocation { service, calls: Vec::new() }));
    }

    /// The service at this place is called.
    pub(super) fn begin(self: &Arc<Self>, index: usize, clock: &Clock) -> Begun {
        Begun { tally: Arc::clone(self), index, clock: clock.clone(), at: clock.now(), ended: false }
    }

    /// All of it, for the service registry; none: nothing was offered.
    pub(crate) fn take(&self, run: &Run, at: DateTime<Utc>) -> Option<ServicesInvoked> {
        let services = std::mem::take(&mut *self.lock());
        if services.is_empty() {
            return None;
        }
        let organisation = run.organisation.clone();
        Some(ServicesInvoked { run_id: run.id, run_attempt: run.run_attempt, organisation, at, services })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ServiceInvocation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// It has ended.
    pub(super) fn end(mut self, failure: Option<CallFailure>) -> ServiceCall {
        self.ended = true;
        self.record(failure)
    }

    fn record(&self, failure: Option<CallFailure>) -> ServiceCall {
        let took = (self.clock.now() - self.at).num_milliseconds().max(0);
        let call = ServiceCall { failure, duration_ms: u32::try_from(took).unwrap_or(u32::MAX) };
        if let Some(invocation) = self.tally.lock().get_mut(self.index) {
            invocation.calls.push(call);
        }
        call
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Some(CallFailure::RunEnded));
        }
    }
}
