//! Why the dispatcher did not do something.

use bus::{HandleError, PublishError};
use model::crontab::CrontabErrors;
use model::id::AgentId;
use model::wire::WireError;
use service_kit::database::DatabaseError;

/// Why the dispatcher did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    #[error("the database did not do it")]
    Database(#[from] DatabaseError),
    #[error("the bus did not take it")]
    Bus(#[from] PublishError),
    #[error("a message cannot be read")]
    Wire(#[from] WireError),
    #[error("the crontab of agent {0} cannot be read")]
    Crontab(AgentId, #[source] CrontabErrors),
    #[error("{0}")]
    BadRequest(String),
    #[error("agent {0} is not known here")]
    UnknownAgent(AgentId),
    #[error("the mentor of agent {0} was deleted")]
    MentorDeleted(AgentId),
    #[error("the user who created agent {0} may not have it run any more")]
    CreatorNotAllowed(AgentId),
}

impl From<diesel::result::Error> for DispatchError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

impl DispatchError {
    /// Whether waiting may heal it: nobody's fault.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_unavailable(),
            Self::Bus(error) => matches!(error, PublishError::Unavailable(_) | PublishError::Closed),
            _ => false,
        }
    }
}

/// What the consume loop is to do about it.
impl From<DispatchError> for HandleError {
    fn from(error: DispatchError) -> Self {
        let reason = service_kit::error::chain(&error);
        match error {
            error if error.is_unavailable() => Self::Unavailable(reason),
            DispatchError::Wire(_) | DispatchError::Crontab(..) => Self::Rejected(reason),
            _ => Self::Failed(reason),
        }
    }
}
