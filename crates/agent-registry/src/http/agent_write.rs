//! Periodic agents: create, put, patch, delete.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use service_kit::error::ApiError;

use super::agent_view::AgentView;
use super::body::{self, Form};
use super::request::{self, Item};
use crate::creations;
use crate::documents::Written;
use crate::edit::{self, Edit, Saved};
use crate::idempotency::{Begun, Repeatable};
use crate::state::State;
use crate::validation::agent::{AgentInput, Write};
use crate::validation::fields::Faults;
use crate::validation::form;

/// `POST P/periodic-agents/`
pub(super) async fn create_agent(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    save(state, request, payload, None, Write::Create).await
}

/// `PUT P/periodic-agents/{id}/`
pub(super) async fn put_agent(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    save(state, request, payload, Some(path), Write::Replace).await
}

/// `PATCH P/periodic-agents/{id}/`
pub(super) async fn patch_agent(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    save(state, request, payload, Some(path), Write::Change).await
}

/// Stores what the request says, of a new agent or of that one, and answers with the agent as it is now.
async fn save(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: Option<web::Path<Item>>,
    write: Write,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let id = path.map(|path| path.id("PeriodicAgent")).transpose()?;
    let form = Form { shape: form::AGENT, partial: write == Write::Change };
    let body = body::read(&state, &request, payload, form).await?;
    let repeatable = match write {
        Write::Create => Repeatable::read(&state, request.headers(), &acting, "periodic-agents", &body)?,
        Write::Replace | Write::Change => None,
    };
    let faults = Faults::default();
    let input = AgentInput::read(&body, write, &faults);
    let (mentor_reference, secret) = (input.mentor, input.callback_secret.clone());
    let edit = Edit { acting, input, errors: faults.into_errors() };

    let view = move |Saved { row, mentor, activity }| {
        AgentView::of_write(row, &mentor, mentor_reference, &secret, activity.as_ref())
    };
    let body = match id {
        None if repeatable.is_none() && !edit.lengthens_a_chain() => {
            written_out(&view(creations::store(&state, edit).await?))?
        }
        _ => save_alone(&state, edit, id, repeatable, view).await?,
    };
    let status = match write {
        Write::Create => StatusCode::CREATED,
        Write::Replace | Write::Change => StatusCode::OK,
    };
    Ok(HttpResponse::build(status).content_type(ContentType::json()).body(body))
}

/// Saves an agent in a transaction of its own, with all else that the request wants to be in it: the key by which it may
/// be repeated, and what the agent before it put out.
async fn save_alone(
    state: &Arc<State>,
    edit: Edit,
    id: Option<i64>,
    repeatable: Option<Repeatable>,
    view: impl FnOnce(Saved) -> AgentView + Send + 'static,
) -> Result<Vec<u8>, ApiError> {
    let writer = Arc::clone(state);
    let stored = state.db.write(move |conn| {
        if let Some(repeatable) = &repeatable
            && let Begun::Answered(body) = repeatable.begin(conn, &writer)?
        {
            return Ok((body, Written::new()));
        }
        let (saved, written) = match id {
            None => edit::create_one(conn, &writer, edit)?,
            Some(id) => edit::change(conn, &writer, id, &edit)?,
        };
        let mut views = [view(saved)];
        AgentView::with_previous_outputs(conn, &mut views)?;
        let [view] = views;
        let body = written_out(&view)?;
        if let Some(repeatable) = &repeatable {
            repeatable.answer(conn, &writer, &body)?;
        }
        Ok::<_, ApiError>((body, written))
    });
    let (body, written) = stored.await?;
    state.outbox.announce(written);
    if id.is_none() {
        state.counted.notify_one();
    }
    Ok(body)
}

fn written_out(view: &AgentView) -> Result<Vec<u8>, ApiError> {
    tracing::info!(agent.id = view.id(), organisation = view.organisation(), "an agent is saved");
    serde_json::to_vec(view).map_err(|error| ApiError::internal(&error))
}

/// `DELETE P/periodic-agents/{id}/`
pub(super) async fn delete_agent(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let id = path.id("PeriodicAgent")?;
    let writer = Arc::clone(&state);
    let written = state.db.write(move |conn| edit::delete(conn, &writer, &acting, id)).await?;
    state.outbox.announce(written);
    state.counted.notify_one();
    state.broom.sweep_now();
    tracing::info!(agent.id = id, "an agent was deleted");
    Ok(HttpResponse::NoContent().finish())
}
