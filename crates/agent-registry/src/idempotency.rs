//! `Idempotency-Key`: a request repeated within a day is answered as the first time, and does nothing more.
//!
//! A key belongs to the caller, the organisation and the operation. Where all that a request does is one transaction,
//! the key is stored in it, and a crash leaves either both or none. A trigger asks the dispatcher in between: its key is
//! stored before and goes along, so that after a crash the repeat asks again and gets the same run.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::TimeDelta;
use serde_json::Value;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::error::ApiError;

use crate::access::Acting;
use crate::state::State;
use crate::store::idempotency::{self, RequestRow};

/// How long a key holds.
pub(crate) const LIFE: TimeDelta = TimeDelta::hours(24);
const HEADER: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 255;

/// A request that its client may repeat.
#[derive(Debug, Clone)]
pub(crate) struct Repeatable(RequestRow);

/// Whether a request was there before.
pub(crate) enum Begun {
    /// It is to be carried out, also if somebody began it before: this names it, whoever carries it out.
    New(String),
    /// It was answered with this body.
    Answered(Vec<u8>),
}

impl Repeatable {
    /// The request, if it has a key; 400 for one that cannot be a key.
    pub(crate) fn read(
        state: &State,
        headers: &HeaderMap,
        acting: &Acting,
        operation: &str,
        body: &Value,
    ) -> Result<Option<Self>, ApiError> {
        let Some(key) = headers.get(HEADER) else { return Ok(None) };
        let is_good = |key: &&str| !key.is_empty() && key.len() <= KEY_CHARS_MAX;
        let Some(key) = key.to_str().ok().filter(is_good) else {
            let text = format!("`Idempotency-Key` must be 1 to {KEY_CHARS_MAX} visible characters.");
            return Err(ApiError::coded(StatusCode::BAD_REQUEST, "idempotency_key_invalid", text));
        };
        let asked = [acting.username.as_bytes(), b"\0", body.to_string().as_bytes()].concat();
        Ok(Some(Self(RequestRow {
            organisation: acting.organisation.clone(),
            username: acting.caller.clone(),
            operation: operation.to_owned(),
            key: key.to_owned(),
            fingerprint: digest(&SHA256, &asked).as_ref().to_vec(),
            created_at: state.clock.now().into(),
            sealed_answer: None,
        })))
    }

    /// Begins it in the caller's transaction, unless it was answered before; 422 if the key was used for something else.
    pub(crate) fn begin(&self, conn: &mut DbConnection, state: &State) -> Result<Begun, ApiError> {
        if idempotency::insert(conn, &self.0)? {
            return Ok(Begun::New(self.token(self.0.created_at)));
        }
        let Some(before) = idempotency::find_for_update(conn, &self.0)? else {
            // It was swept a moment ago.
            idempotency::insert(conn, &self.0)?;
            return Ok(Begun::New(self.token(self.0.created_at)));
        };
        if *before.created_at + LIFE <= *self.0.created_at {
            idempotency::replace(conn, &self.0)?;
            return Ok(Begun::New(self.token(self.0.created_at)));
        }
        if before.fingerprint != self.0.fingerprint {
            let text = "This `Idempotency-Key` was used for another request: take a new key.";
            return Err(ApiError::coded(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", text));
        }
        let Some(sealed) = before.sealed_answer else { return Ok(Begun::New(self.token(before.created_at))) };
        let opened = state.keys.open(&sealed, &self.owner(), "answer").map_err(|error| ApiError::internal(&error))?;
        Ok(Begun::Answered(opened.into_inner()))
    }

    /// Stores the answer, in the caller's transaction.
    pub(crate) fn answer(&self, conn: &mut DbConnection, state: &State, body: &[u8]) -> Result<(), ApiError> {
        let sealed = state.keys.seal(body, &self.owner(), "answer").map_err(|error| ApiError::internal(&error))?;
        Ok(idempotency::answer(conn, &self.0, &sealed)?)
    }

    /// What the dispatcher knows the request by. Used again after its day, a key is another request.
    fn token(&self, since: Timestamp) -> String {
        let RequestRow { organisation, username, operation, key, .. } = &self.0;
        let parts = [organisation, username, operation, key, &since.timestamp_micros().to_string()];
        hex::encode(digest(&SHA256, parts.map(String::as_str).join("\0").as_bytes()))
    }

    fn owner(&self) -> String {
        format!("idempotency:{}", self.0.organisation)
    }
}
