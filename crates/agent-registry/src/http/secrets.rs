//! `P/periodic-agents/{id}/rotate-secret/`: another callback secret, while receivers may use the one before for a while.

use std::sync::Arc;

use actix_web::HttpResponse;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::error::ApiError;
use service_kit::secrets::Secret;
use utoipa::ToSchema;

use super::of_agent::{AgentParts, OfAgent};
use crate::access::Acting;
use crate::documents::Written;
use crate::edit::{self, seal_secret};
use crate::state::State;
use crate::store::agents;
use crate::validation::agent::SecretChange;
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::form;
use crate::validation::time::render;

/// A day.
const GRACE_SECONDS: i64 = 86_400;
/// Thirty days.
const GRACE_SECONDS_MAX: i64 = 2_592_000;
/// As many bytes as the hash of the signature has.
const GENERATED_BYTES: usize = 32;
/// What secrets in base64 begin with, by Standard Webhooks; their libraries take the whole text.
const GENERATED_PREFIX: &str = "whsec_";

/// The answer: the only time that the secret is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = RotatedSecret)]
pub(super) struct RotatedView {
    callback_secret: String,
    callback_secret_set: bool,
    /// Until when the secret before it is good; null: it is not, or there was none.
    previous_secret_until: Option<String>,
}

/// `POST P/periodic-agents/{id}/rotate-secret/`
///
/// Everything is one transaction: a crash leaves the old secret or the new one, never neither.
pub(super) async fn rotate_secret(parts: AgentParts) -> Result<HttpResponse, ApiError> {
    let OfAgent { state, acting, id, body, .. } = OfAgent::read(parts, form::ROTATION).await?;
    let (secret, grace) = read(&body)?;
    let secret = match secret {
        Some(secret) => secret,
        None => generate()?,
    };
    let (writer, new) = (Arc::clone(&state), secret.clone());
    let rotated = state.db.write(move |conn| rotate(conn, &writer, &acting, id, new, grace));
    let (until, written) = rotated.await?;
    state.outbox.announce(written);
    tracing::info!(agent.id = id, "a callback secret was rotated");
    Ok(HttpResponse::Ok().json(RotatedView {
        callback_secret: secret.into_inner(),
        callback_secret_set: true,
        previous_secret_until: until.map(render),
    }))
}

fn read(body: &Value) -> Result<(Option<Secret<String>>, TimeDelta), ApiError> {
    let faults = Faults::default();
    let fields = Fields::of(body, Presence::Partial, &faults);
    let text = |fields: &Fields<'_>| fields.nullable_text("callback_secret", Text::OPTIONAL.max(255)).flatten();
    let secret = fields.as_ref().and_then(text).filter(|secret| !secret.is_empty());
    let grace = fields.as_ref().and_then(|fields| fields.integer("grace_seconds")).flatten().unwrap_or(GRACE_SECONDS);
    if grace < 0 {
        faults.add("grace_seconds", "Ensure this value is greater than or equal to 0.");
    }
    if grace > GRACE_SECONDS_MAX {
        faults.add("grace_seconds", format!("Ensure this value is less than or equal to {GRACE_SECONDS_MAX}."));
    }
    faults.into_errors().into_result()?;
    Ok((secret.map(Secret::new), TimeDelta::seconds(grace)))
}

fn generate() -> Result<Secret<String>, ApiError> {
    let mut bytes = [0; GENERATED_BYTES];
    rand::fill(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok(Secret::new(format!("{GENERATED_PREFIX}{}", STANDARD.encode(bytes))))
}

/// Sets the secret. Returns until when the one before is good.
fn rotate(
    conn: &mut DbConnection,
    state: &State,
    acting: &Acting,
    id: i64,
    secret: Secret<String>,
    grace: TimeDelta,
) -> Result<(Option<DateTime<Utc>>, Written), ApiError> {
    let now = state.clock.now();
    let found = agents::find_for_update(conn, &acting.organisation, id)?;
    let mut row = found.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let before = row.sealed_callback_secret.take().filter(|_| grace > TimeDelta::zero());
    let until = before.as_ref().map(|_| now + grace);
    row.sealed_previous_secret = before;
    row.previous_secret_until = until.map(Timestamp::from);
    row.sealed_callback_secret = seal_secret(state, id, &SecretChange::Set(secret), None)?;
    row.last_editor.clone_from(&acting.caller);
    row.modified_at = now.into();
    let written = edit::store(conn, acting, &row, "agent.secret_rotated", &["callback_secret"], now)?;
    Ok((until, written))
}
