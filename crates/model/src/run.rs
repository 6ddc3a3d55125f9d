//! Runs: one execution of an agent, from its request to its result.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::document::Mentor;
use crate::id::{AgentId, OrganisationKey, RunId};
pub use crate::run_state::RunState;
use crate::word::words;

words! {
    /// What made a run.
    Trigger {
        /// A tick of its schedule.
        Schedule = "schedule",
        /// Somebody asked for it now.
        Manual = "manual",
        /// The agent that it follows came to the status that it waits for.
        Chain = "chain",
        /// A tick that was missed, made good.
        CatchUp = "catch_up",
    }
}

words! {
    /// Why a run ended as `error`.
    RunReason {
        /// The mentor's provider failed for good.
        ProviderFailed = "provider_failed",
        /// The mentor's provider is not configured here.
        ProviderUnknown = "provider_unknown",
        /// Neither prompt nor system prompt.
        NothingToAsk = "nothing_to_ask",
        /// Longer than its time-out.
        TimedOut = "timed_out",
        /// Requested again and again, and never answered.
        Lost = "lost",
        /// Stopped by somebody.
        Cancelled = "cancelled",
        /// The user that it acts as might not any more when it was to begin.
        CreatorNotAllowed = "creator_not_allowed",
        /// Credentials could not be opened: they are damaged, or were sealed for another owner.
        CredentialsUnreadable = "credentials_unreadable",
        /// A newer version said why, in a word that this one does not know.
        Unknown = "unknown",
    }
}

words! {
    /// Why a tick has no run.
    SkipReason {
        /// Several ticks were due at once; the newest of them ran.
        Coalesced = "coalesced",
        /// Missed for longer than the catch-up window.
        TooLate = "too_late",
        /// Its mentor is gone.
        MentorDeleted = "mentor_deleted",
        /// Its agent, its organisation or everything was paused.
        Paused = "paused",
        /// Its owner had disabled the agent.
        Disabled = "disabled",
        /// An earlier run was not ended, and the policy is to skip.
        Overlap = "overlap",
        /// More ticks were missed than are made good at once.
        Limit = "limit",
        /// Too many runs of the organisation wait already.
        Backlog = "backlog",
        /// The agent that it follows ended otherwise.
        PreviousStatus = "previous_status",
        /// The user that its runs act as may not any more.
        CreatorNotAllowed = "creator_not_allowed",
        /// A newer version said why, in a word that this one does not know.
        Unknown = "unknown",
    }
}

/// What identifies a run and its place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The `log_id`.
    pub id: RunId,
    /// Whose it is.
    pub organisation: OrganisationKey,
    /// Whose run it is.
    pub agent_id: AgentId,
    /// What made it.
    pub trigger: Trigger,
    /// The tick that it came from; of a manual run, when it was asked for.
    pub fire_time: DateTime<Utc>,
    /// The moment that it is about.
    pub nominal_time: DateTime<Utc>,
    /// Counts the agent's runs from 1, without a gap.
    pub sequence: i64,
    /// 1 for the first.
    pub run_attempt: u32,
    /// How many earlier ticks were coalesced into this one.
    pub passed_over: u32,
}

/// `run.requested`: all that a runner needs to ask a mentor.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// Which run.
    pub run: Run,
    /// Whom to ask, and how.
    pub mentor: Mentor,
    /// What to ask; may be empty.
    pub prompt: String,
    /// The user that the run acts as.
    pub username: String,
    /// Who edited the agent last.
    pub last_editor: String,
    /// The collection that the mentor uses; opaque.
    pub pathway: String,
    /// The chat session that created the agent; opaque.
    pub parent_session_id: String,
    /// The mentor that created the agent; opaque.
    pub parent_mentor_id: Option<i64>,
    /// How long it may take, counted from its start.
    pub timeout: Duration,
    /// Whether somebody waits to see it start.
    pub announce_start: bool,
}

/// `run.answered`: what a runner says of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAnswer {
    /// Which run.
    pub run_id: RunId,
    /// Which of its run attempts.
    pub run_attempt: u32,
    /// When the mentor was asked.
    pub started_at: DateTime<Utc>,
    /// When it had answered.
    pub ended_at: DateTime<Utc>,
    /// What came of it.
    pub result: RunResult,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunResult {
    /// None: success. Else why there is no answer.
    pub reason: Option<RunReason>,
    /// The final answer; empty on error.
    pub output: String,
    /// The whole log, a line a step.
    pub log: String,
    /// What the provider counted.
    pub usage: Usage,
    /// The session that it ran with.
    pub session_id: String,
}

impl RunResult {
    /// The state that this result brings the run to.
    #[must_use]
    pub fn state(&self) -> RunState {
        if self.reason.is_none() { RunState::Success } else { RunState::Error }
    }
}

/// Tokens, as the provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of what was asked.
    pub prompt_tokens: i64,
    /// Of the answer.
    pub completion_tokens: i64,
}

/// A run as the dispatcher sees it: the one source of its log and of its callback.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Which run.
    pub run: Run,
    /// How far it has come.
    pub state: RunState,
    /// What was asked.
    pub prompt: String,
    /// When its tick became a run.
    pub requested_at: DateTime<Utc>,
    /// When its mentor was asked.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Of an ended run.
    pub result: Option<RunResult>,
    /// When the agent fires next, as known when this was sent.
    pub next_fire_time: Option<DateTime<Utc>>,
    /// The one-off of this timing version is finished.
    pub finished_timing_version: Option<i64>,
    /// The agent's document version when its tick became this run; none: not known.
    pub agent_version: Option<i64>,
}

/// Where an agent's schedule stands, as the dispatcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Whose it is.
    pub agent_id: AgentId,
    /// When the agent fires next; none: no tick is planned.
    pub next_fire_time: Option<DateTime<Utc>>,
    /// The one-off of this timing version is finished.
    pub finished_timing_version: Option<i64>,
}

/// A tick without a run, or a span of them, for a receiver that wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedTick {
    /// Whose it is.
    pub organisation: OrganisationKey,
    /// Whose tick it was.
    pub agent_id: AgentId,
    /// When it would have fired.
    pub fire_time: DateTime<Utc>,
    /// The moment that it is about.
    pub nominal_time: DateTime<Utc>,
    /// The end of the span, itself outside of it.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: SkipReason,
    /// The agent's document version at that moment; none: not known.
    pub agent_version: Option<i64>,
}

/// What became of one planned moment, or of a span of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The planned moment, or the first of the span.
    pub fire_time: DateTime<Utc>,
    /// The moment that it is about.
    pub nominal_time: DateTime<Utc>,
    /// What became of it.
    pub outcome: TickOutcome,
}

/// Exactly one of these is true of every tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TickOutcome {
    /// It became this run.
    Run(RunId),
    /// It, and every tick before `until`, became no run.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// The end of the span, itself outside of it.
        until: DateTime<Utc>,
    },
}
