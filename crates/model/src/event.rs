//! The events of the bus: what each is called, and what it says.
//!
//! Their bytes are the protobuf messages behind [`crate::wire`].

use chrono::{DateTime, Utc};

use crate::codec::{Wire, WireError};
use crate::document::{Document, HeldDocument, Receiver};
use crate::id::{AgentId, OrganisationKey, RunId};
use crate::run::{RunRecord, ScheduleRecord, SkippedTick};
use crate::word::words;

words! {
    /// One kind of message: a fact (`run.answered`) or a request (`run.requested`).
    ///
    /// The name is the CloudEvents `type` and the routing key.
    EventKind {
        /// Documents in a newer version: agent-registry to cron-dispatcher and callback-deliverer.
        DocumentChanged = "document.changed",
        /// A receiver stored these document versions: to agent-registry.
        DocumentsHeld = "documents.held",
        /// Ask this mentor now: cron-dispatcher to agent-runner.
        RunRequested = "run.requested",
        /// A run that lasts has begun: agent-runner to cron-dispatcher.
        RunStarted = "run.started",
        /// What came of a run: agent-runner to cron-dispatcher.
        RunAnswered = "run.answered",
        /// Stop these runs: cron-dispatcher to every agent-runner (broadcast).
        RunCancel = "run.cancel",
        /// What is to be let go? agent-runner to every cron-dispatcher (broadcast).
        RunnerJoined = "runner.joined",
        /// Runs as they start and end, and ticks that came to none: cron-dispatcher to agent-registry.
        RunsRecorded = "runs.recorded",
        /// Ended runs with a callback: cron-dispatcher to callback-deliverer.
        RunsFinished = "runs.finished",
        /// Ticks without a run, of agents that ask for it: cron-dispatcher to callback-deliverer.
        TicksSkipped = "ticks.skipped",
        /// A receiver stored these results: to cron-dispatcher.
        RunsHeld = "runs.held",
        /// What a run did with the services that it was offered: agent-runner to service-registry.
        ServiceInvoked = "service.invoked",
    }
}

/// A message of the bus in the words of the domain.
pub trait Event: Wire {
    /// What it is called.
    const KIND: EventKind;
}

/// Reads an event out of a message of `kind`.
///
/// # Errors
///
/// The message is of another kind, or its bytes are not readable.
pub fn decode_event<E: Event>(kind: EventKind, body: &[u8]) -> Result<E, WireError> {
    if kind == E::KIND { E::decode(body) } else { Err(WireError::Unexpected(kind.as_str())) }
}

macro_rules! event {
    ($name:ty, $kind:ident) => {
        impl Event for $name {
            const KIND: EventKind = EventKind::$kind;
        }
    };
}

/// `document.changed`.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentChanged {
    /// Each in its newest version.
    pub documents: Vec<Document>,
}
event!(DocumentChanged, DocumentChanged);

/// `documents.held`.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentsHeld {
    /// Who holds them.
    pub receiver: Receiver,
    /// What it holds.
    pub documents: Vec<HeldDocument>,
    /// Organisations whose agents the dispatcher is about to plan anew with a newer time zone database.
    pub replanned: Vec<Replanned>,
}
event!(DocumentsHeld, DocumentsHeld);

/// The agents of an organisation are planned anew; said at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replanned {
    /// Whose agents.
    pub organisation: OrganisationKey,
    /// The edition of the time zone database that they are planned with from now on.
    pub tzdb: String,
}

event!(crate::run::RunRequest, RunRequested);
event!(crate::run::RunAnswer, RunAnswered);

/// `run.started`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStarted {
    /// Which run.
    pub run_id: RunId,
    /// Which of its run attempts.
    pub run_attempt: u32,
    /// When the mentor was asked, by the runner's clock.
    pub started_at: DateTime<Utc>,
}
event!(RunStarted, RunStarted);

/// `run.cancel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCancel {
    /// Runs to stop wherever they are.
    pub run_ids: Vec<RunId>,
    /// Whether runners that have joined have now heard of every run that was taken back before they did.
    pub complete: bool,
}
event!(RunCancel, RunCancel);

/// `runner.joined`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerJoined;
event!(RunnerJoined, RunnerJoined);

/// `runs.recorded`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunsRecorded {
    /// Runs in their present state.
    pub runs: Vec<RunRecord>,
    /// Of agents whose ticks came to no run.
    pub schedules: Vec<ScheduleRecord>,
}
event!(RunsRecorded, RunsRecorded);

/// `runs.finished`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunsFinished {
    /// Ended runs, each with its result.
    pub runs: Vec<RunRecord>,
}
event!(RunsFinished, RunsFinished);

/// `ticks.skipped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicksSkipped {
    /// Each tick, or span of them, with its reason.
    pub ticks: Vec<SkippedTick>,
}
event!(TicksSkipped, TicksSkipped);

/// `runs.held`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsHeld {
    /// Who holds them.
    pub receiver: Receiver,
    /// Ended runs whose results it stored.
    pub run_ids: Vec<RunId>,
    /// Skipped ticks that it stored.
    pub ticks: Vec<HeldTick>,
}

/// A skipped tick that the deliverer stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldTick {
    /// Whose tick it was.
    pub agent_id: AgentId,
    /// When it would have fired.
    pub fire_time: DateTime<Utc>,
}
event!(RunsHeld, RunsHeld);
event!(crate::service::ServicesInvoked, ServiceInvoked);
