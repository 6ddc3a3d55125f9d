//! Who may do what: the one place that decides it.
//!
//! | credential | may act |
//! |---|---|
//! | none, or an unknown scheme | nowhere: 401 |
//! | a token that is not believed, an API key | nowhere: 401 |
//! | a token without a role, or of a run's session | nowhere: 403 |
//! | a tenant administrator's token | in the organisation that it names, as the user that it names; else 403 |
//! | a platform administrator's token | in every organisation, as every user |
//!
//! What is not of the organisation is not there: 404, by looking for it within the organisation only.

use actix_web::http::header::HeaderMap;
use chrono::{DateTime, Utc};
use service_kit::auth::{AuthError, Caller, Credential, Role, TokenVerifier};
use service_kit::database::DbConnection;
use service_kit::error::ApiError;

use crate::documents::{self, Written};
use crate::store::organisations;

/// A caller who may act as this user in this organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acting {
    /// The organisation of the path.
    pub(crate) organisation: String,
    /// The user of the path: creator of what is created.
    pub(crate) username: String,
    /// Who is really asking: the last editor of what is edited.
    pub(crate) caller: String,
    /// Whether the token names the organisation, so that it exists from now on.
    pub(crate) vouches_for_organisation: bool,
}

/// Lets a caller act in `organisation` as `username`, or turns it away.
pub(crate) fn admit(
    tokens: &TokenVerifier,
    headers: &HeaderMap,
    organisation: &str,
    username: &str,
    now: DateTime<Utc>,
) -> Result<Acting, ApiError> {
    let caller = authenticate(tokens, headers, now).inspect_err(|error| {
        tracing::info!(reason = %error, "a caller was turned away");
    })?;
    if !caller.administers(organisation) {
        return Err(ApiError::forbidden());
    }
    if caller.role != Role::PlatformAdmin && caller.username != username {
        return Err(ApiError::forbidden());
    }
    Ok(Acting {
        organisation: organisation.to_owned(),
        username: username.to_owned(),
        vouches_for_organisation: caller.organisation.as_deref() == Some(organisation),
        caller: caller.username,
    })
}

/// Lets a caller act in `organisation` as himself, or turns him away.
pub(crate) fn admit_to_organisation(
    tokens: &TokenVerifier,
    headers: &HeaderMap,
    organisation: &str,
    now: DateTime<Utc>,
) -> Result<(), ApiError> {
    let caller = authenticate(tokens, headers, now).inspect_err(|error| {
        tracing::info!(reason = %error, "a caller was turned away");
    })?;
    if caller.administers(organisation) { Ok(()) } else { Err(ApiError::forbidden()) }
}

fn authenticate(tokens: &TokenVerifier, headers: &HeaderMap, now: DateTime<Utc>) -> Result<Caller, AuthError> {
    match Credential::from_headers(headers)? {
        Credential::Token(token) => tokens.verify(token.expose(), now),
        Credential::ApiKey(_) => Err(AuthError::Invalid("API keys are not known yet".to_owned())),
    }
}

/// Makes sure that the organisation of a write exists: a token that names it brings it into being.
pub(crate) fn enter_organisation(
    conn: &mut DbConnection,
    acting: &Acting,
    now: DateTime<Utc>,
    written: &mut Written,
) -> Result<(), ApiError> {
    if acting.vouches_for_organisation {
        documents::ensure_organisation(conn, &acting.organisation, now, written)?;
    } else if organisations::timezone(conn, &acting.organisation)?.is_none() {
        return Err(ApiError::no_such("Organisation"));
    }
    Ok(())
}
