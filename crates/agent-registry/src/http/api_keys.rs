//! `/api/core/platform/api-tokens/`: API keys. A key is shown once, in the answer to the request that made it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use service_kit::database::Timestamp;
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;

use super::body::{self, Form};
use super::request;
use crate::access::{self, CredentialKind, keys};
use crate::audit;
use crate::documents::Written;
use crate::state::State;
use crate::store::api_keys::{self, ApiKeyRow};
use crate::validation::api_key::ApiKeyInput;
use crate::validation::fields::{Faults, REQUIRED};
use crate::validation::form;
use crate::validation::time::render;

/// So that their list can be whole.
const KEYS_MAX: i64 = 1_000;
const TAKEN: &str = "The fields platform_key, name must make a unique set.";

/// A key as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct ApiKeyView {
    username: String,
    name: String,
    /// Only in the answer to the request that made it; later it is empty, for nobody knows it.
    key: String,
    expires: Option<String>,
    created: String,
    read_only: bool,
}

impl ApiKeyView {
    fn of(row: ApiKeyRow, key: String) -> Self {
        Self {
            username: row.username,
            name: row.name,
            key,
            expires: row.expires_at.map(|at| render(*at)),
            created: render(*row.created_at),
            read_only: row.read_only,
        }
    }
}

/// The organisation of a request whose body names none: `platform_key`, else that of the credential.
fn platform_key(request: &HttpRequest) -> Result<String, ApiError> {
    let query = request::query(request);
    let known = request::known(request)?;
    let named = query.text("platform_key").or(known.own_organisation());
    named.map(str::to_owned).ok_or_else(|| {
        let mut errors = FieldErrors::new();
        errors.add("platform_key", REQUIRED);
        ApiError::fields(errors)
    })
}

/// `GET /api/core/platform/api-tokens/`: the organisation's keys. As in the original, the list is a bare array.
pub(super) async fn list_api_keys(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &platform_key(&request)?)?;
    let found = state.db.read(move |conn| Ok::<_, ApiError>(api_keys::all(conn, &acting.organisation)?)).await?;
    let views: Vec<ApiKeyView> = found.into_iter().map(|row| ApiKeyView::of(row, String::new())).collect();
    Ok(HttpResponse::Ok().json(views))
}

/// `POST /api/core/platform/api-tokens/`
pub(super) async fn create_api_key(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    request::known(&request)?;
    let body = body::read(&state, &request, payload, Form::whole(form::API_KEY)).await?;
    let faults = Faults::default();
    let input = ApiKeyInput::read(&body, &faults);
    // Whoever may not act there learns nothing of the rest.
    let organisation = input.platform_key.map_or_else(|| platform_key(&request), Ok)?;
    let acting = request::admit_to(&request, &organisation)?;
    let now = state.clock.now();
    let expires_at = expires_at(input.expires_in, acting.credential, now, &faults);
    faults.into_errors().into_result()?;

    let (key, key_hash) = keys::make()?;
    let row = ApiKeyRow {
        organisation: acting.organisation.clone(),
        name: input.name,
        username: acting.username.clone(),
        key_hash,
        read_only: input.read_only,
        created_at: now.into(),
        expires_at: expires_at.map(Timestamp::from),
    };
    let writer = Arc::clone(&state);
    let stored = state.db.write(move |conn| {
        let mut written = Written::new();
        access::enter_organisation(conn, &acting, writer.clock.now(), &mut written)?;
        if api_keys::count(conn, &row.organisation)? >= KEYS_MAX {
            let text = format!("This organisation has {KEYS_MAX} API keys, the most that there may be: delete some.");
            return Err(ApiError::detail(StatusCode::FORBIDDEN, text).with_code("api_keys_max_reached"));
        }
        if !api_keys::insert(conn, &row)? {
            let mut errors = FieldErrors::new();
            errors.add_general("", TAKEN);
            return Err(ApiError::fields(errors));
        }
        audit::record(conn, &acting, "api_key.created", &row.name, &[], now)?;
        Ok::<_, ApiError>((row, written))
    });
    let (row, written) = stored.await?;
    state.outbox.announce(written);
    tracing::info!(organisation = row.organisation, api_key.name = row.name, "an API key was created");
    Ok(HttpResponse::build(StatusCode::CREATED).json(ApiKeyView::of(row, key.into_inner())))
}

/// When a new key expires. A key that expires makes none that outlasts it: whoever holds it would hold it for good.
fn expires_at(
    asked: Option<Duration>,
    credential: CredentialKind,
    now: DateTime<Utc>,
    faults: &Faults,
) -> Option<DateTime<Utc>> {
    let asked = asked.map(|length| now + TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX));
    let latest = credential.key_expires_at();
    if let (Some(asked), Some(latest)) = (asked, latest)
        && asked > latest
    {
        let latest = render(latest);
        faults.add("expires_in", format!("Ensure this key expires no later than the key that makes it: {latest}."));
    }
    asked.or(latest)
}

/// A key's name in the path.
#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
}

/// `DELETE /api/core/platform/api-tokens/{name}`: from this moment it is not believed; by another replica, within
/// seconds.
pub(super) async fn delete_api_key(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &platform_key(&request)?)?;
    let name = path.into_inner().name;
    let (organisation, shown) = (acting.organisation.clone(), name.clone());
    let now = state.clock.now();
    let removed = state.db.write(move |conn| {
        if !api_keys::delete(conn, &acting.organisation, &name)? {
            return Err(ApiError::no_such("PlatformApiKey"));
        }
        Ok(audit::record(conn, &acting, "api_key.deleted", &name, &[], now)?)
    });
    removed.await?;
    state.recent_keys.clear();
    tracing::info!(organisation, api_key.name = shown, "an API key was revoked");
    Ok(HttpResponse::NoContent().finish())
}
