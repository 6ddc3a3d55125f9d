//! `POST /api/core/pause/` and `…/resume/`: everything stands still, and goes on. The dispatcher keeps it, so there is
//! nothing to store here: it is in force when the answer says so.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use service_kit::error::ApiError;

use super::body::{self, Form};
use super::request;
use crate::dispatcher::PauseEverything;
use crate::state::State;
use crate::validation::fields::{Faults, Fields, Presence, Text};
use crate::validation::form;
use crate::validation::organisation::{CATCH_UPS, NOTE_CHARS_MAX};

/// `POST /api/core/pause/` `{note?}`
pub(super) async fn pause_everything(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    set(&state, &request, payload, true).await
}

/// `POST /api/core/resume/` `{catch_up?}`
pub(super) async fn resume_everything(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    set(&state, &request, payload, false).await
}

async fn set(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
    paused: bool,
) -> Result<HttpResponse, ApiError> {
    let known = request::known(request)?;
    let operator = known.operate()?;
    let body = body::read(state, request, payload, Form::whole(form::PAUSE)).await?;
    let pause = read(&body, paused)?;
    state.dispatcher.pause_everything(&pause).await?;
    tracing::warn!(user.name = operator, paused, "everything was paused or resumed");
    Ok(HttpResponse::Ok().json(json!({ "paused": paused, "note": pause.note })))
}

fn read(body: &Value, paused: bool) -> Result<PauseEverything, ApiError> {
    let faults = Faults::default();
    let fields = Fields::of(body, Presence::Partial, &faults);
    let note = fields.as_ref().and_then(|fields| fields.text("note", Text::OPTIONAL.max(NOTE_CHARS_MAX)));
    let catch_up = fields.as_ref().and_then(|fields| fields.choice("catch_up", &CATCH_UPS));
    faults.into_errors().into_result()?;
    let note = if paused { note.unwrap_or_default() } else { String::new() };
    Ok(PauseEverything { paused, note, catch_up: catch_up.filter(|_| !paused) })
}
