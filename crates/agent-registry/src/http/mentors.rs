//! Mentors: create, list, retrieve.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use service_kit::database::{DbConnection, Json};
use service_kit::error::{ApiError, FieldErrors};
use uuid::Uuid;

use super::mentor_view::MentorView;
use super::page::PageRequest;
use super::{request, templates};
use crate::access::{self, Acting};
use crate::audit;
use crate::documents::{self, Written};
use crate::state::{State, api_key_owner};
use crate::store::mentors::{self, MentorRow};
use crate::validation::fields::Faults;
use crate::validation::mentor::{MentorInput, ProviderInput};

/// What is said of a public id or slug that another mentor has.
const TAKEN: &str = "This field must be unique.";
/// The longest slug made from a name.
const SLUG_CHARS_MAX: usize = 80;

/// `GET P/`
pub(super) async fn list_mentors(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let by_name = query.text("filter_by") == Some("name");
    let found = state.db.read(move |conn| {
        let page = page.of(mentors::count(conn, &organisation)?)?;
        Ok::<_, ApiError>((page, mentors::page(conn, &organisation, by_name, page.window())?))
    });
    let (page, rows) = found.await?;
    Ok(page.answer(&state, &request, &query, rows.into_iter().map(MentorView::from).collect()))
}

/// A mentor by name, slug or public id.
#[derive(Deserialize)]
pub(super) struct Named {
    mentor: String,
}

/// `GET P/mentors/{mentor}/`
pub(super) async fn get_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Named>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let name = path.into_inner().mentor;
    let found = state.db.read(move |conn| Ok::<_, ApiError>(mentors::find_by_any(conn, &organisation, &name)?)).await?;
    let row = found.ok_or_else(|| ApiError::no_such("Mentor"))?;
    Ok(HttpResponse::Ok().json(MentorView::from(row)))
}

/// `POST P/`
pub(super) async fn create_mentor(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let body = request::read_json(&state, &request, payload).await?;
    let faults = Faults::default();
    let input = MentorInput::read(&body, &faults);
    let row = create(state.into_inner(), acting, input, faults).await?;
    Ok(HttpResponse::Created().json(MentorView::from(row)))
}

/// `POST P/mentor-with-settings/`: from a template; whatever the request says wins.
pub(super) async fn create_mentor_with_settings(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit(&state, &request)?;
    let body = request::read_json(&state, &request, payload).await?;
    let faults = Faults::default();
    let mut input = MentorInput::read_with_settings(&body, &faults);
    match templates::find(&input.template_name) {
        Some(template) if input.system_prompt.is_empty() => input.system_prompt = template.system_prompt.to_owned(),
        Some(_) => {}
        None if input.template_name.is_empty() => {}
        None => {
            let error = json!({ "error": format!("Template mentor {} not found.", input.template_name) });
            return Ok(HttpResponse::BadRequest().json(error));
        }
    }
    let row = create(state.into_inner(), acting, input, faults).await?;
    Ok(HttpResponse::Ok().json(MentorView::from(row)))
}

/// Stores a new mentor with its document, or says all that is wrong with it.
async fn create(state: Arc<State>, acting: Acting, input: MentorInput, faults: Faults) -> Result<MentorRow, ApiError> {
    if let Some(provider) = &input.provider {
        check_provider_name(&state, provider, &faults);
    }
    let errors = faults.into_errors();
    let writer = Arc::clone(&state);
    let created = state.db.write(move |conn| {
        let faults = Faults::from(errors);
        check_unique(conn, &acting.organisation, &input, &faults)?;
        faults.into_errors().into_result()?;
        insert(conn, &writer, &acting, input)
    });
    let (row, written) = created.await?;
    state.outbox.announce(written);
    tracing::info!(mentor.id = row.id, organisation = row.organisation, "a mentor was created");
    Ok(row)
}

fn check_provider_name(state: &State, provider: &ProviderInput, faults: &Faults) {
    let name = &provider.settings.name;
    if provider.settings.kind.is_empty() && !name.is_empty() && !state.config.has_provider(name) {
        faults.add("provider.name", format!("\"{name}\" is not configured: set `providers.{name}`."));
    }
}

fn check_unique(
    conn: &mut DbConnection,
    organisation: &str,
    input: &MentorInput,
    faults: &Faults,
) -> Result<(), ApiError> {
    if let Some(unique_id) = input.unique_id
        && mentors::unique_id_is_taken(conn, unique_id)?
    {
        faults.add("unique_id", TAKEN);
    }
    if let Some(slug) = &input.slug
        && mentors::slug_is_taken(conn, organisation, slug)?
    {
        faults.add("slug", TAKEN);
    }
    Ok(())
}

fn insert(
    conn: &mut DbConnection,
    state: &State,
    acting: &Acting,
    input: MentorInput,
) -> Result<(MentorRow, Written), ApiError> {
    let now = state.clock.now();
    let mut written = Written::new();
    access::enter_organisation(conn, acting, now, &mut written)?;
    let api_key = input.provider.as_ref().and_then(|provider| provider.api_key.clone());
    let slug_is_chosen = input.slug.is_some();
    let mut row = new_row(conn, acting, input, now)?;
    row.id = match mentors::insert(conn, &row)? {
        Some(id) => id,
        // Somebody else was quicker by a moment.
        None if slug_is_chosen => return Err(taken("slug")),
        None => {
            row.slug = unique_slug(&row.slug, row.unique_id.into());
            mentors::insert(conn, &row)?.ok_or_else(|| taken("unique_id"))?
        }
    };
    if let Some(api_key) = api_key {
        let (owner, field) = api_key_owner(row.id);
        let sealed = state.keys.seal(api_key.expose().as_bytes(), &owner, field);
        let sealed = sealed.map_err(|error| ApiError::internal(&error))?;
        mentors::set_api_key(conn, row.id, &sealed)?;
        row.sealed_api_key = Some(sealed);
    }
    let config = documents::config_for(conn, &row.organisation, &state.config)?;
    documents::write(conn, &row.organisation, documents::of_mentor(&row, &config), now, &mut written)?;
    audit::record(conn, acting, "mentor.created", &row.id.to_string(), &[], now)?;
    Ok((row, written))
}

fn new_row(
    conn: &mut DbConnection,
    acting: &Acting,
    input: MentorInput,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<MentorRow, ApiError> {
    let unique_id = input.unique_id.unwrap_or_else(Uuid::new_v4);
    let slug = match input.slug {
        Some(slug) => slug,
        None => free_slug(conn, &acting.organisation, &input.name, unique_id)?,
    };
    let provider = input.provider.map(|provider| serde_json::to_value(provider.settings)).transpose();
    Ok(MentorRow {
        id: 0,
        unique_id: unique_id.into(),
        organisation: acting.organisation.clone(),
        name: input.name,
        slug,
        display_name: input.display_name,
        description: input.description,
        system_prompt: input.system_prompt,
        llm_provider: input.llm_provider,
        llm_name: input.llm_name,
        llm_temperature: input.llm_temperature,
        metadata: input.metadata.map(Json::from),
        provider: provider.map_err(|error| ApiError::internal(&error))?.map(Json::from),
        sealed_api_key: None,
        service_groups: json!(input.service_groups).into(),
        created_by: acting.username.clone(),
        created_at: now.into(),
        updated_at: now.into(),
    })
}

/// The name in letters, digits and hyphens; where that is taken or empty, with the public id.
fn free_slug(conn: &mut DbConnection, organisation: &str, name: &str, unique_id: Uuid) -> Result<String, ApiError> {
    let words: Vec<String> = name
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let slug: String = words.join("-").chars().take(SLUG_CHARS_MAX).collect();
    if slug.is_empty() || mentors::slug_is_taken(conn, organisation, &slug)? {
        return Ok(unique_slug(&slug, unique_id));
    }
    Ok(slug)
}

fn unique_slug(slug: &str, unique_id: Uuid) -> String {
    let unique = unique_id.simple();
    if slug.is_empty() { unique.to_string() } else { format!("{slug}-{unique}") }
}

fn taken(field: &str) -> ApiError {
    let mut errors = FieldErrors::new();
    errors.add(field, TAKEN);
    ApiError::fields(errors)
}
