//! Mentors: create, list, retrieve, change, delete.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use diesel::QueryResult;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::database::DbConnection;
use service_kit::error::{ApiError, FieldErrors};

use super::body::{self, Form};
use super::list::read_list;
use super::list_stream::Entries;
use super::mentor_view::MentorView;
use super::page::PageRequest;
use super::{request, templates};
use crate::access::Acting;
use crate::mentor_edit::{self, Edit};
use crate::state::State;
use crate::store::mentor_list::{self, MentorFilter};
use crate::store::mentors;
use crate::validation::fields::{Faults, Presence};
use crate::validation::form;
use crate::validation::mentor::MentorInput;
use crate::validation::query::Query;

/// Who may see a mentor here, in the words of the original: all that the API has is for administrators.
const VISIBILITY: &str = "viewable_by_tenant_admins";

/// `GET P/`
pub(super) async fn list_mentors(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let (filter, by_name) = read_filter(&query, organisation)?;
    let found = read_list(&state, move |conn| {
        let (page, ids) = match filter {
            None => (page.of(0)?, Vec::new()),
            Some(filter) => {
                let page = page.of(mentor_list::count(conn, filter.clone())?)?;
                (page, mentor_list::page(conn, filter, by_name, page.window())?)
            }
        };
        let text_bytes = mentor_list::text_bytes(conn, &ids)?;
        Ok((page, Entries::read(conn, &ids, &text_bytes, views)?))
    });
    let (page, entries) = found.await?;
    entries.answer(&state, &request, &query, page)
}

/// Those of these mentors that exist, in this order.
fn views(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<MentorView>> {
    let mut rows = mentors::by_ids(conn, ids.to_vec())?;
    // One that was deleted since its page was found is still there for its agents.
    rows.retain(|_, row| row.deleted_at.is_none());
    Ok(ids.iter().filter_map(|id| rows.remove(id)).map(MentorView::from).collect())
}

/// What a list is narrowed to, none: to nothing; and whether its order is that of the names. `return_session_information`
/// asks for what no mentor has here.
fn read_filter(query: &Query, organisation: String) -> Result<(Option<MentorFilter>, bool), ApiError> {
    let mut errors = FieldErrors::new();
    let by_name = query.choice("filter_by", &["date", "name"], &mut errors) == Some("name");
    let department = query.integer("department_id", &mut errors);
    errors.into_result()?;
    let seen = query.text("visibility").is_none_or(|words| words.split(',').any(|word| word.trim() == VISIBILITY));
    // Nobody is in a department here.
    if department.is_some() || !seen {
        return Ok((None, by_name));
    }
    let value = query.text("metadata_value").map(str::to_owned);
    let filter = MentorFilter {
        featured: query.boolean("is_featured"),
        metadata: query.text("metadata_key").map(|key| (key.to_owned(), value)),
        organisation,
    };
    Ok((Some(filter), by_name))
}

/// A mentor by name, slug or public id.
#[derive(Deserialize)]
pub(super) struct Named {
    mentor: String,
}

/// `GET P/mentors/{mentor}/` and `GET P/{mentor}/`
pub(super) async fn get_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let name = path.into_inner().mentor;
    let found = state.db.read(move |conn| Ok::<_, ApiError>(mentors::find_by_any(conn, &organisation, &name)?)).await?;
    let row = found.ok_or_else(mentor_edit::no_such)?;
    Ok(HttpResponse::Ok().json(MentorView::from(row)))
}

/// `POST P/`
pub(super) async fn create_mentor(parts: Parts) -> Result<HttpResponse, ApiError> {
    let new = New::read(parts).await?;
    let input = MentorInput::read(&new.body, Presence::Whole, &new.faults);
    Ok(HttpResponse::Created().json(new.store(input).await?))
}

/// `POST P/create-mentor-wizard/`: from a name and a description.
pub(super) async fn create_mentor_by_wizard(parts: Parts) -> Result<HttpResponse, ApiError> {
    let new = New::read(parts).await?;
    let input = MentorInput::read_wizard(&new.body, &new.faults);
    Ok(HttpResponse::Created().json(new.store(input).await?))
}

/// `POST P/mentor-with-settings/`: from a template; whatever the request says wins.
pub(super) async fn create_mentor_with_settings(parts: Parts) -> Result<HttpResponse, ApiError> {
    let new = New::read(parts).await?;
    let mut input = MentorInput::read_with_settings(&new.body, &new.faults);
    if let Some(name) = &input.template_name {
        let Some(template) = templates::find(name) else {
            let error = json!({ "error": format!("Template mentor {name} not found.") });
            return Ok(HttpResponse::BadRequest().json(error));
        };
        let own = input.system_prompt.filter(|prompt| !prompt.is_empty());
        input.system_prompt = Some(own.unwrap_or_else(|| template.system_prompt.to_owned()));
    }
    Ok(HttpResponse::Ok().json(new.store(input).await?))
}

/// `PUT P/{name}/`: what it does not speak of stays.
pub(super) async fn put_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    change(state, request, payload, path, Presence::Whole).await
}

/// `PATCH P/{name}/`
pub(super) async fn patch_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    change(state, request, payload, path, Presence::Partial).await
}

/// `DELETE P/{name}/`: the ticks of its agents are skipped from now on.
pub(super) async fn delete_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let name = path.into_inner().mentor;
    let writer = Arc::clone(&state);
    let written = state.db.write(move |conn| mentor_edit::delete(conn, &writer, &acting, &name)).await?;
    state.outbox.announce(written);
    tracing::info!("a mentor was deleted");
    Ok(HttpResponse::NoContent().finish())
}

/// As a request for a new mentor comes.
type Parts = (web::Data<State>, HttpRequest, web::Payload);

/// Such a request, let in and read.
struct New {
    state: web::Data<State>,
    acting: Acting,
    body: Value,
    faults: Faults,
}

impl New {
    async fn read((state, request, payload): Parts) -> Result<Self, ApiError> {
        let acting = request::admit(&state, &request)?;
        let body = body::read(&state, &request, payload, Form::whole(form::MENTOR)).await?;
        Ok(Self { state, acting, body, faults: Faults::default() })
    }

    /// Stores the mentor with its document, or says all that is wrong with it.
    async fn store(self, input: MentorInput) -> Result<MentorView, ApiError> {
        let Self { state, acting, faults, .. } = self;
        let edit = Edit { acting, input, errors: faults.into_errors() };
        let writer = Arc::clone(&state);
        let (row, written) = state.db.write(move |conn| mentor_edit::create(conn, &writer, edit)).await?;
        state.outbox.announce(written);
        tracing::info!(mentor.id = row.id, organisation = row.organisation, "a mentor was created");
        Ok(MentorView::from(row))
    }
}

async fn change(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<Named>,
    presence: Presence,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let form = Form { shape: form::MENTOR, partial: presence == Presence::Partial };
    let body = body::read(&state, &request, payload, form).await?;
    let faults = Faults::default();
    let input = MentorInput::read(&body, presence, &faults);
    let edit = Edit { acting, input, errors: faults.into_errors() };
    let (name, writer) = (path.into_inner().mentor, Arc::clone(&state));
    let (row, written) = state.db.write(move |conn| mentor_edit::change(conn, &writer, &name, edit)).await?;
    state.outbox.announce(written);
    tracing::info!(mentor.id = row.id, organisation = row.organisation, "a mentor was changed");
    Ok(HttpResponse::Ok().json(MentorView::from(row)))
}
