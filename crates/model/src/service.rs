//! Services: which of them a run may call, and what it did with them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::id::{OrganisationKey, RunId};
use crate::word::words;

words! {
    /// Why a call of a service brought nothing.
    CallFailure {
        /// The model's arguments are not those that the service takes: it was not called.
        WrongArguments = "wrong_arguments",
        /// Its endpoint may not be called from here.
        NotAllowed = "not_allowed",
        /// No connection.
        Unreachable = "unreachable",
        /// No whole answer in time.
        TimedOut = "timed_out",
        /// The connection broke before the answer was whole.
        Broken = "broken",
        /// A redirect, which is not followed.
        Redirected = "redirected",
        /// Any other status than success.
        Status = "status",
        /// The answer is longer than an answer may be.
        TooLarge = "too_large",
        /// The answer is no JSON.
        NotJson = "not_json",
        /// The run ended before the answer came.
        RunEnded = "run_ended",
        /// A newer version said why, in a word that this one does not know.
        Unknown = "unknown",
    }
}

impl CallFailure {
    /// Whether it says something about the service, rather than about the model or the run.
    #[must_use]
    pub fn is_the_services(self) -> bool {
        !matches!(self, Self::WrongArguments | Self::RunEnded)
    }
}

/// `service.invoked`: what one run attempt did with the services that it was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesInvoked {
    /// Which run.
    pub run_id: RunId,
    /// Which of its run attempts.
    pub run_attempt: u32,
    /// Whose run it is; the services may be others'.
    pub organisation: OrganisationKey,
    /// When the run attempt ended.
    pub at: DateTime<Utc>,
    /// Each service that it was offered, once.
    pub services: Vec<ServiceInvocation>,
}

/// What a run attempt did with one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceInvocation {
    /// Which service.
    pub service: Uuid,
    /// Its calls; none: it was offered only.
    pub calls: Vec<ServiceCall>,
}

/// One call of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceCall {
    /// Why it brought nothing; none: it brought an answer.
    pub failure: Option<CallFailure>,
    /// How long it took.
    pub duration_ms: u32,
}

/// `POST /internal/services`: which services may a run call?
#[derive(Clone, PartialEq, Eq)]
pub struct CallableServicesRequest {
    /// The run's session token, for the service registry: as whom it acts.
    pub session_token: String,
    /// The groups that its mentor names.
    pub groups: Vec<Uuid>,
}

impl std::fmt::Debug for CallableServicesRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallableServicesRequest").field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallableServices {
    /// In the order in which they are offered.
    pub services: Vec<CallableService>,
}

/// A service that a run may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallableService {
    /// Which service.
    pub id: Uuid,
    /// As its owner calls it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// What it takes.
    pub fields: Vec<ServiceField>,
    /// Where it is called.
    pub endpoint: String,
}

/// A field of the message that a service takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceField {
    /// Its name, once in a service.
    pub name: String,
    /// Whether a call has to have it.
    pub required: bool,
    /// The name of a JSON type; any other text: any type.
    pub field_type: String,
    /// What it means.
    pub description: String,
}
