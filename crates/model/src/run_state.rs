//! How far a run has come: the one word that documents, runs and logs share.

use crate::word::words;

words! {
    /// How far a run has come. The last two are final.
    RunState {
        /// Requested and not started.
        Pending = "pending",
        /// Its mentor is being asked.
        Running = "running",
        /// It ended with an answer.
        Success = "success",
        /// It ended without one.
        Error = "error",
    }
}

impl RunState {
    /// Whether nothing changes any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Error)
    }
}
