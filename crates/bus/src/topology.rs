//! The queues: who receives which kind of event. Fixed, and declared whole whenever a bus is opened.

use std::fmt;
use std::str::FromStr;

use model::event::EventKind;

/// One queue: what one microservice receives for one purpose, shared by all replicas of that microservice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Documents that cron-dispatcher is to hold.
    CronDispatcherDocuments,
    /// Documents that callback-deliverer is to hold.
    CallbackDelivererDocuments,
    /// What the two hold, told to agent-registry.
    AgentRegistryDocumentsHeld,
    /// Runs that agent-runner is to ask a mentor for.
    AgentRunnerRuns,
    /// What became of the runs asked for.
    CronDispatcherAnswers,
    /// Runs that agent-registry is to show.
    AgentRegistryRuns,
    /// Results, and skipped ticks, that callback-deliverer is to bring to their receivers.
    CallbackDelivererRuns,
    /// Runs that the receivers hold, told to cron-dispatcher.
    CronDispatcherRunsHeld,
    /// What runs did with services, told to service-registry.
    ServiceRegistryInvocations,
}

impl Queue {
    /// Whether its messages stay in hand while a mentor is asked: then the prefetch is how many are asked at a time.
    pub(crate) fn stays_in_hand(self) -> bool {
        self == Self::AgentRunnerRuns
    }

    /// Every queue, in the order in which a run meets them.
    pub const ALL: [Self; 9] = [
        Self::CronDispatcherDocuments,
        Self::CallbackDelivererDocuments,
        Self::AgentRegistryDocumentsHeld,
        Self::AgentRunnerRuns,
        Self::CronDispatcherAnswers,
        Self::AgentRegistryRuns,
        Self::CallbackDelivererRuns,
        Self::CronDispatcherRunsHeld,
        Self::ServiceRegistryInvocations,
    ];

    /// The dotted name: the microservice that consumes it, then what it holds.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CronDispatcherDocuments => "cron-dispatcher.documents",
            Self::CallbackDelivererDocuments => "callback-deliverer.documents",
            Self::AgentRegistryDocumentsHeld => "agent-registry.documents-held",
            Self::AgentRunnerRuns => "agent-runner.runs",
            Self::CronDispatcherAnswers => "cron-dispatcher.answers",
            Self::AgentRegistryRuns => "agent-registry.runs",
            Self::CallbackDelivererRuns => "callback-deliverer.runs",
            Self::CronDispatcherRunsHeld => "cron-dispatcher.runs-held",
            Self::ServiceRegistryInvocations => "service-registry.invocations",
        }
    }

    /// The kinds of event that this queue gets.
    #[must_use]
    pub fn binds(self) -> &'static [EventKind] {
        match self {
            Self::CronDispatcherDocuments | Self::CallbackDelivererDocuments => &[EventKind::DocumentChanged],
            Self::AgentRegistryDocumentsHeld => &[EventKind::DocumentsHeld],
            Self::AgentRunnerRuns => &[EventKind::RunRequested],
            Self::CronDispatcherAnswers => &[EventKind::RunStarted, EventKind::RunAnswered],
            Self::AgentRegistryRuns => &[EventKind::RunsRecorded],
            Self::CallbackDelivererRuns => &[EventKind::RunsFinished, EventKind::TicksSkipped],
            Self::CronDispatcherRunsHeld => &[EventKind::RunsHeld],
            Self::ServiceRegistryInvocations => &[EventKind::ServiceInvoked],
        }
    }

    /// The queues that get events of this kind; none for what is only ever broadcast.
    pub fn bound_to(kind: EventKind) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |queue| queue.binds().contains(&kind))
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that no queue has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no queue of Carillon; there are {names}", names = Queue::ALL.map(Queue::as_str).join(", "))]
pub struct UnknownQueue(pub String);

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == name).ok_or_else(|| UnknownQueue(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_read_back_from_its_name() {
        for queue in Queue::ALL {
            assert_eq!(queue.as_str().parse(), Ok(queue));
        }
        let unknown = "cron-dispatcher.dreams".parse::<Queue>().unwrap_err();
        assert!(unknown.to_string().contains("cron-dispatcher.runs-held"), "{unknown}");
    }

    #[test]
    fn only_what_is_broadcast_is_bound_to_no_queue() {
        let unbound: Vec<_> = EventKind::ALL.iter().filter(|kind| Queue::bound_to(**kind).next().is_none()).collect();
        assert_eq!(unbound, [&EventKind::RunCancel, &EventKind::RunnerJoined]);
    }

    #[test]
    fn a_changed_document_goes_to_both_that_hold_documents() {
        let queues: Vec<_> = Queue::bound_to(EventKind::DocumentChanged).collect();
        assert_eq!(queues, [Queue::CronDispatcherDocuments, Queue::CallbackDelivererDocuments]);
    }
}
