//! Who may do what: the one place that decides it.
//!
//! | credential | may act |
//! |---|---|
//! | none, or an unknown scheme | nowhere: 401 |
//! | a token that is not believed, an unknown, revoked or expired API key | nowhere: 401 |
//! | a token without a role, or of a run's session | nowhere: 403 |
//! | a tenant administrator's token | in the organisation that it names, as the user that it names; else 403 |
//! | an API key | in its organisation, as its user; else 401, as the original API does |
//! | a read-only API key | the same, to read; else 403 |
//! | a platform administrator's token | in every organisation, as every user; and what concerns all of them |
//!
//! What is not of the organisation is not there: 404, by looking for it within the organisation only.
//!
//! It goes in two steps: [`recognise`] finds out who is asking, once for each request and before its handler; the
//! handler then asks [`Known`] whether they may do what it is about to do.

pub(crate) mod keys;
pub(crate) mod limits;
mod recent;
pub(crate) mod roles;

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use chrono::{DateTime, Utc};
use service_kit::auth::{AuthError, Caller, Credential, Role};
use service_kit::database::DbConnection;
use service_kit::error::ApiError;

use crate::audit;
use crate::documents::{self, Written};
use crate::state::State;
use crate::store::organisations::{self, OrganisationRow};

/// What somebody showed to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A token (JWT).
    Token,
    /// An API key: whether it may only read, and when it expires.
    ApiKey { read_only: bool, expires_at: Option<DateTime<Utc>> },
}

impl CredentialKind {
    /// Its name in the audit log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ApiKey { .. } => "api_key",
        }
    }

    /// When it ends, if it is an API key that does: what it makes must not outlast it.
    pub(crate) fn key_expires_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Token => None,
            Self::ApiKey { expires_at, .. } => expires_at,
        }
    }
}

/// Somebody who is known; what they may do is yet to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    caller: Caller,
    credential: CredentialKind,
}

/// A caller who may act as this user in this organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acting {
    /// The organisation of the path.
    pub(crate) organisation: String,
    /// The user of the path, or else who is asking: creator of what is created.
    pub(crate) username: String,
    /// Who is really asking: the last editor of what is edited.
    pub(crate) caller: String,
    /// What they showed.
    pub(crate) credential: CredentialKind,
    /// Whether the credential names the organisation, so that it exists from now on.
    pub(crate) vouches_for_organisation: bool,
}

/// Who is asking, within the limits of their organisation.
pub(crate) async fn recognise(state: &State, headers: &HeaderMap) -> Result<Known, ApiError> {
    let mut issued_at = None;
    let known = match Credential::from_headers(headers)? {
        Credential::Token(token) => {
            let (caller, issued) = state.tokens.verify_dated(token.expose(), state.clock.now()).await?;
            issued_at = issued;
            Known { caller, credential: CredentialKind::Token }
        }
        Credential::ApiKey(key) => {
            let row = keys::look_up(state, &key).await?;
            let expires_at = row.expires_at.map(DateTime::from);
            let caller =
                Caller { username: row.username, organisation: Some(row.organisation), role: Role::TenantAdmin };
            Known { caller, credential: CredentialKind::ApiKey { read_only: row.read_only, expires_at } }
        }
    };
    if let Some(organisation) = &known.caller.organisation {
        limits::check(state, organisation).await?;
    }
    roles::observe(state, &known.caller, issued_at).await;
    Ok(known)
}

impl Known {
    /// Lets them act in `organisation`, as `username` where the path names a user, or turns them away.
    pub(crate) fn enter(
        &self,
        method: &Method,
        organisation: &str,
        username: Option<&str>,
    ) -> Result<Acting, ApiError> {
        let caller = &self.caller;
        let other_user = username.is_some_and(|username| caller.username != username);
        match self.credential {
            CredentialKind::ApiKey { read_only, .. } => {
                if caller.organisation.as_deref() != Some(organisation) || other_user {
                    return Err(AuthError::Invalid("an API key of another organisation or user".to_owned()).into());
                }
                if read_only && !method.is_safe() {
                    return Err(ApiError::forbidden());
                }
            }
            CredentialKind::Token => {
                if !caller.administers(organisation) || (other_user && caller.role != Role::PlatformAdmin) {
                    return Err(ApiError::forbidden());
                }
            }
        }
        Ok(Acting {
            organisation: organisation.to_owned(),
            username: username.unwrap_or(&caller.username).to_owned(),
            caller: caller.username.clone(),
            credential: self.credential,
            vouches_for_organisation: caller.organisation.as_deref() == Some(organisation),
        })
    }

    /// Lets them do what concerns every organisation, and tells who they are.
    pub(crate) fn operate(&self) -> Result<&str, ApiError> {
        match (self.credential, self.caller.role) {
            (CredentialKind::Token, Role::PlatformAdmin) => Ok(&self.caller.username),
            _ => Err(ApiError::forbidden()),
        }
    }

    /// Which organisations they may see: all, or this one.
    pub(crate) fn organisations(&self) -> Result<Option<&str>, ApiError> {
        match (self.caller.role, self.caller.organisation.as_deref()) {
            (Role::PlatformAdmin, _) => Ok(None),
            (Role::TenantAdmin, Some(own)) => Ok(Some(own)),
            _ => Err(ApiError::forbidden()),
        }
    }

    /// The organisation that their credential names.
    pub(crate) fn own_organisation(&self) -> Option<&str> {
        self.caller.organisation.as_deref()
    }
}

/// The organisation of a write, which exists from then on: a credential that names it brings it into being.
pub(crate) fn enter_organisation(
    conn: &mut DbConnection,
    acting: &Acting,
    now: DateTime<Utc>,
    written: &mut Written,
) -> Result<OrganisationRow, ApiError> {
    let organisation = &acting.organisation;
    let found = organisations::find(conn, organisation)?;
    match found {
        Some(row) if row.erasing_since.is_some() => {
            let text = "This organisation is being erased: try again when it is gone.";
            Err(ApiError::detail(StatusCode::CONFLICT, text).with_code("organisation_erasing"))
        }
        Some(row) => Ok(row),
        None if acting.vouches_for_organisation => {
            if documents::ensure_organisation(conn, organisation, now, written)? {
                audit::record(conn, acting, "organisation.created", organisation, &[], now)?;
            }
            organisations::find(conn, organisation)?.ok_or_else(|| ApiError::no_such("Organisation"))
        }
        None => Err(ApiError::no_such("Organisation")),
    }
}
