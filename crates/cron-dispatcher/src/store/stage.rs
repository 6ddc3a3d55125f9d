//! How far a run has come, as the dispatcher tells it apart.

use diesel::prelude::*;
use model::run::RunState;

use super::literal::Literal;
use super::read_word;
use crate::schema::runs;

/// How far a run has come, as the dispatcher tells it apart. The last two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits in the table for a place in the window.
    Queued,
    /// Waits for a pause to end, or for a run of the same limit.
    Waiting,
    /// Queued again when its `check_at` has come.
    Delayed,
    /// In the window: sent to the runners.
    Requested,
    /// Its mentor is being asked.
    Running,
    /// It ended with an answer.
    Success,
    /// It ended without one.
    Error,
}

impl Stage {
    /// Runs that have not ended.
    pub(super) const UNFINISHED: [Self; 5] =
        [Self::Queued, Self::Waiting, Self::Delayed, Self::Requested, Self::Running];
    /// Runs that runners may know of.
    pub(crate) const IN_FLIGHT: [Self; 2] = [Self::Requested, Self::Running];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
        }
    }

    /// As statements look for it: each stage that is not final has an index of its own.
    pub(crate) fn literal(self) -> Literal {
        Literal(self.as_str())
    }

    /// The state that everyone else sees.
    pub(crate) fn state(self) -> RunState {
        match self {
            Self::Queued | Self::Waiting | Self::Delayed | Self::Requested => RunState::Pending,
            Self::Running => RunState::Running,
            Self::Success => RunState::Success,
            Self::Error => RunState::Error,
        }
    }

    pub(super) fn read(word: &str) -> QueryResult<Self> {
        match word {
            "queued" => Ok(Self::Queued),
            "waiting" => Ok(Self::Waiting),
            "delayed" => Ok(Self::Delayed),
            "requested" => Ok(Self::Requested),
            other => Ok(Self::of(read_word(other)?)),
        }
    }

    pub(super) fn of(state: RunState) -> Self {
        match state {
            RunState::Pending => Self::Queued,
            RunState::Running => Self::Running,
            RunState::Success => Self::Success,
            RunState::Error => Self::Error,
        }
    }
}

/// Whether runs that are looked for by their ids are in this stage.
///
/// Said so that the stage's own index is of no use for it: while statistics are older than a backlog, PostgreSQL takes
/// that index for the shortest way, and reads all who are in the stage to find a hundred of them.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn stands_in(stage: Stage) -> _ {
    let (stage, nothing): (Literal, Literal) = (stage.literal(), Literal(""));
    runs::stage.concat(nothing).eq(stage)
}
