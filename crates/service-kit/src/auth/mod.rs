//! Who is asking: the `Authorization` header, tokens of people, of runs, and those that microservices show each other.

mod credential;
mod internal;
mod key_set;
mod session;
mod token;

use std::fmt;
use std::str::FromStr;

use actix_web::http::StatusCode;

pub use credential::Credential;
pub use internal::{InternalCaller, InternalSigner, InternalVerifier};
pub use session::{SessionCaller, SessionVerifier};
pub use token::{IssueError, TokenVerifier, issue_token};

/// Who is asking, as a token or an API key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub username: String,
    /// The organisation; a platform administrator need not have one.
    pub organisation: Option<String>,
    /// What the user may do there.
    pub role: Role,
}

impl Caller {
    /// Whether this caller may administer `organisation`.
    #[must_use]
    pub fn administers(&self, organisation: &str) -> bool {
        match self.role {
            Role::PlatformAdmin => true,
            Role::TenantAdmin => self.organisation.as_deref() == Some(organisation),
            Role::None => false,
        }
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Known, with no right to administer.
    None,
    /// Administers one organisation.
    TenantAdmin,
    /// Administers every organisation.
    PlatformAdmin,
}

impl Role {
    /// Its name in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TenantAdmin => "tenant_admin",
            Self::PlatformAdmin => "platform_admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that no role has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: use platform_admin, tenant_admin or none")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        [Self::None, Self::TenantAdmin, Self::PlatformAdmin]
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// Why a caller was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header, or a scheme that is none of ours.
    #[error("no credentials")]
    NotProvided,
    /// A header that names a scheme and then makes no sense.
    #[error("malformed credentials: {0}")]
    Malformed(&'static str),
    /// A token or key that is not believed. The reason is for the log: whoever guesses tokens need not learn it.
    #[error("credentials not believed: {0}")]
    Invalid(String),
    /// The session token of a run (it has `act`): good for services, not for our own APIs.
    #[error("a run's session token is not accepted here")]
    SessionToken,
    /// Believed, but without the right.
    #[error("not allowed")]
    NotAllowed,
}

impl AuthError {
    /// The status that the client sees.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotProvided | Self::Malformed(_) | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::SessionToken | Self::NotAllowed => StatusCode::FORBIDDEN,
        }
    }

    /// The text that the client sees.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        match self {
            Self::NotProvided => "Authentication credentials were not provided.",
            Self::Malformed(text) => text,
            Self::Invalid(_) => "Invalid token.",
            Self::SessionToken | Self::NotAllowed => "You do not have permission to perform this action.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_back_from_its_name() {
        for role in [Role::None, Role::TenantAdmin, Role::PlatformAdmin] {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("admin".parse::<Role>().unwrap_err().to_string().contains("tenant_admin"));
    }

    #[test]
    fn a_tenant_administers_its_own_organisation_only() {
        let caller = |organisation: Option<&str>, role| Caller {
            username: "u".to_owned(),
            organisation: organisation.map(str::to_owned),
            role,
        };
        assert!(caller(Some("acme"), Role::TenantAdmin).administers("acme"));
        assert!(!caller(Some("acme"), Role::TenantAdmin).administers("other"));
        assert!(!caller(None, Role::TenantAdmin).administers("acme"));
        assert!(!caller(Some("acme"), Role::None).administers("acme"));
        assert!(caller(None, Role::PlatformAdmin).administers("acme"));
    }
}
