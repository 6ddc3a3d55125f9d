//! Who is meant: the ids that cross a border between microservices.

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
        }
    };
}

number_id!(
    /// A mentor's integer id; its public twin is the `unique_id`.
    MentorId
);
number_id!(
    /// A periodic agent's id.
    AgentId
);
number_id!(
    /// A run's id, and the `log_id` of its record. Below 2^53, so that JavaScript reads it exactly.
    RunId
);

/// A tenant: the `org` of the API, the `platform_key` of its resources. Any non-empty text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrganisationKey(pub String);

impl OrganisationKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for OrganisationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
