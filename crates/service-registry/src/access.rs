//! Who is asking, and so whose things they see: the one place that decides it.
//!
//! | credential | acts as |
//! |---|---|
//! | none, an unknown scheme, a token that is not believed, an API key | nobody: 401 |
//! | the session token of a run | nobody: 403; which services it may call, its runner asks at an internal route |
//! | a token with an organisation, whatever its role | its user in that organisation |
//! | a token without an organisation | its user, in an organisation of its own |
//!
//! What is not the caller's is not there: 404, by looking for it among the caller's things only. What is public within
//! an organisation is found by [`crate::store::groups`].

use actix_web::http::header::HeaderMap;
use chrono::{DateTime, Utc};
use service_kit::auth::{AuthError, Credential, TokenVerifier};

use crate::refusal::Refusal;

/// Whose something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `org:<organisation>`, or `sub:<user>` of a user without one. The prefix keeps a user who is called like an
    /// organisation out of it.
    pub(crate) organisation: String,
    /// The user.
    pub(crate) username: String,
}

impl Owner {
    /// A user of an organisation, as tokens call it.
    pub(crate) fn of_organisation(organisation: &str, username: String) -> Self {
        Self { organisation: format!("org:{organisation}"), username }
    }
}

/// Whom the request's credential names.
pub(crate) async fn authenticate(
    tokens: &TokenVerifier,
    headers: &HeaderMap,
    now: DateTime<Utc>,
) -> Result<Owner, Refusal> {
    let caller = match Credential::from_headers(headers) {
        Ok(Credential::Token(token)) => tokens.verify(token.expose(), now).await,
        // The agent registry alone knows keys, and this API's clients send tokens.
        Ok(Credential::ApiKey(_)) => Err(AuthError::Invalid("API keys are not known here".to_owned())),
        Err(error) => Err(error),
    };
    let caller = caller.inspect_err(|error| tracing::info!(reason = %error, "a caller was turned away"))?;
    Ok(match caller.organisation {
        Some(organisation) => Owner::of_organisation(&organisation, caller.username),
        None => Owner { organisation: format!("sub:{}", caller.username), username: caller.username },
    })
}
