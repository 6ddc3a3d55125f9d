//! `/api/core/orgs/{org}/users/{name}/revoke/` and `…/restore/`: an operator says whom runs may not act as any more.
//!
//! It concerns runs alone: which requests a user may make, the tokens say. Stored with the organisation's document in one
//! transaction, and then handed to the dispatcher, so that it holds when the answer comes; with the dispatcher away it is
//! stored all the same, the answer is 503, and it holds as soon as the dispatcher has heard of it.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service_kit::database::DbConnection;
use service_kit::error::ApiError;
use utoipa::ToSchema;

use super::organisations::hand_over;
use super::request;
use crate::access::{self, Acting};
use crate::audit;
use crate::documents::{self, Written};
use crate::state::State;
use crate::store::organisations;
use crate::store::users::{self, UserRow};

/// More than any user's name has.
const NAME_CHARS_MAX: usize = 255;

/// The user that a path names.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct UserPlace {
    name: String,
}

/// What is known of a user's rights.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    username: String,
    /// In the newest token that was seen: `platform_admin`, `tenant_admin` or `none`; null if none was.
    role: Option<String>,
    /// By an operator.
    revoked: bool,
    /// Whether runs act as this user: neither revoked nor seen without a role.
    allowed: bool,
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        let (allowed, revoked) = (row.is_allowed(), row.revoked_at.is_some());
        Self { username: row.username, role: row.role, revoked, allowed }
    }
}

/// `POST /api/core/orgs/{org}/users/{name}/revoke/`
pub(super) async fn revoke_user(
    state: web::Data<State>,
    request: HttpRequest,
    place: web::Path<UserPlace>,
) -> Result<HttpResponse, ApiError> {
    set_revoked(state, request, place.into_inner().name, true).await
}

/// `POST /api/core/orgs/{org}/users/{name}/restore/`
pub(super) async fn restore_user(
    state: web::Data<State>,
    request: HttpRequest,
    place: web::Path<UserPlace>,
) -> Result<HttpResponse, ApiError> {
    set_revoked(state, request, place.into_inner().name, false).await
}

async fn set_revoked(
    state: web::Data<State>,
    request: HttpRequest,
    username: String,
    revoked: bool,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &request::organisation(&request)?)?;
    if username.chars().count() > NAME_CHARS_MAX {
        return Err(ApiError::no_such("User"));
    }
    let organisation = acting.organisation.clone();
    let writer = Arc::clone(&state);
    let stored = state.db.write(move |conn| change(conn, &acting, &username, revoked, writer.clock.now()));
    let (user, written) = stored.await?;
    state.outbox.announce(written);
    hand_over(&state, &organisation).await?;
    Ok(HttpResponse::Ok().json(UserView::from(user)))
}

fn change(
    conn: &mut DbConnection,
    acting: &Acting,
    username: &str,
    revoked: bool,
    now: DateTime<Utc>,
) -> Result<(UserRow, Written), ApiError> {
    let mut written = Written::new();
    access::enter_organisation(conn, acting, now, &mut written)?;
    let found = organisations::find_for_update(conn, &acting.organisation)?;
    let settings = found.ok_or_else(|| ApiError::no_such("Organisation"))?;
    let known = users::find(conn, &settings.key, username)?;
    let mut user = known.unwrap_or_else(|| UserRow::unknown(&settings.key, username));
    if user.revoked_at.is_some() == revoked {
        return Ok((user, written));
    }
    if !revoked && acting.caller == username {
        let text = "What was revoked from you, only somebody else can restore.";
        return Err(ApiError::coded(StatusCode::FORBIDDEN, "own_rights", text));
    }
    user.revoked_at = revoked.then(|| now.into());
    users::put(conn, &user)?;
    documents::write_organisation(conn, &settings, now, &mut written)?;
    let action = if revoked { "user.revoked" } else { "user.restored" };
    audit::record(conn, acting, action, username, &["revoked"], now)?;
    tracing::info!(organisation = settings.key, user.name = username, action, "an operator changed a user's rights");
    Ok((user, written))
}
