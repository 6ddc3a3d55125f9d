//! Creating, changing and deleting mentors: what a request says, applied to what is stored.
//!
//! Everything happens in the caller's transaction, the documents included, as for agents.

use chrono::{DateTime, Utc};
use model::document::Subject;
use model::id::MentorId;
use serde_json::{Value, json};
use service_kit::database::{DbConnection, Json};
use service_kit::error::{ApiError, FieldErrors};
use uuid::Uuid;

use crate::access::{self, Acting};
use crate::audit;
use crate::documents::{self, Providers, Written, own_provider};
use crate::state::{State, api_key_owner};
use crate::store::mentors::{self, MentorRow};
use crate::store::organisations;
use crate::validation::fields::Faults;
use crate::validation::mentor::{MentorInput, ProviderInput, ProviderSettings};

/// What is said of a public id or slug that another mentor has.
const TAKEN: &str = "This field must be unique.";
/// The longest slug made from a name.
const SLUG_CHARS_MAX: usize = 80;

/// What somebody wants a mentor to be.
pub(crate) struct Edit {
    pub(crate) acting: Acting,
    pub(crate) input: MentorInput,
    /// What was wrong with the request by itself.
    pub(crate) errors: FieldErrors,
}

/// Stores a new mentor.
pub(crate) fn create(conn: &mut DbConnection, state: &State, edit: Edit) -> Result<(MentorRow, Written), ApiError> {
    let now = state.clock.now();
    let Edit { acting, input, errors } = edit;
    let faults = Faults::from(errors);
    check(conn, state, &acting.organisation, None, &input, &faults)?;
    faults.into_errors().into_result()?;

    let mut written = Written::new();
    access::enter_organisation(conn, &acting, now, &mut written)?;
    let slug_is_chosen = input.slug.is_some();
    let provider = input.provider.clone().flatten();
    let mut row = blank(&acting, input.unique_id.unwrap_or_else(Uuid::new_v4), now);
    apply(&mut row, input)?;
    if !slug_is_chosen {
        row.slug = free_slug(conn, &row)?;
    }
    row.id = match mentors::insert(conn, &row)? {
        Some(id) => id,
        // Somebody else was quicker by a moment.
        None if slug_is_chosen => return Err(taken("slug")),
        None => {
            row.slug = unique_slug(&row.slug, row.unique_id.into());
            mentors::insert(conn, &row)?.ok_or_else(|| taken("unique_id"))?
        }
    };
    if let Some(sealed) = seal(state, row.id, provider.as_ref())? {
        mentors::set_api_key(conn, row.id, &sealed)?;
        row.sealed_api_key = Some(sealed);
    }
    announce(conn, state, &row, &mut written)?;
    audit::record(conn, &acting, "mentor.created", &row.id.to_string(), &[], now)?;
    Ok((row, written))
}

/// Changes the mentor of this name, slug or public id.
pub(crate) fn change(
    conn: &mut DbConnection,
    state: &State,
    name: &str,
    edit: Edit,
) -> Result<(MentorRow, Written), ApiError> {
    let now = state.clock.now();
    let Edit { acting, mut input, errors } = edit;
    let mut row = mentors::find_for_update(conn, &acting.organisation, name)?.ok_or_else(no_such)?;
    let before = row.clone();
    // What identifies it stays, whatever is written back.
    input.unique_id = None;
    let faults = Faults::from(errors);
    check(conn, state, &acting.organisation, Some(&row), &input, &faults)?;
    faults.into_errors().into_result()?;

    if let Some(provider) = &input.provider {
        row.sealed_api_key = match seal(state, row.id, provider.as_ref())? {
            Some(sealed) => Some(sealed),
            // A key goes only where its owner sent it: written back without one, the provider must be the same.
            None => row.sealed_api_key.take().filter(|_| leads_to_the_same(&own_provider(&row), provider.as_ref())),
        };
    }
    apply(&mut row, input)?;
    row.updated_at = now.into();
    if !mentors::update(conn, &row)? {
        return Err(taken("slug"));
    }
    let mut written = Written::new();
    announce(conn, state, &row, &mut written)?;
    let fields = audit::changed_mentor_fields(&before, &row);
    audit::record(conn, &acting, "mentor.changed", &row.id.to_string(), &fields, now)?;
    Ok((row, written))
}

/// Deletes a mentor. Its agents stay, and say why they do not run; the row stays for them to show.
pub(crate) fn delete(conn: &mut DbConnection, state: &State, acting: &Acting, name: &str) -> Result<Written, ApiError> {
    let now = state.clock.now();
    let mut row = mentors::find_for_update(conn, &acting.organisation, name)?.ok_or_else(no_such)?;
    row.deleted_at = Some(now.into());
    row.sealed_api_key = None;
    mentors::update(conn, &row)?;
    let mut written = Written::new();
    documents::write(conn, &row.organisation, Subject::MentorDeleted(MentorId(row.id)), now, &mut written)?;
    audit::record(conn, acting, "mentor.deleted", &row.id.to_string(), &[], now)?;
    Ok(written)
}

fn announce(conn: &mut DbConnection, state: &State, row: &MentorRow, written: &mut Written) -> Result<(), ApiError> {
    let organisation = organisations::find(conn, &row.organisation)?;
    let subject = documents::of_mentor(row, Providers::of(organisation.as_ref(), &state.config));
    documents::write(conn, &row.organisation, subject, state.clock.now(), written)?;
    Ok(())
}

/// 404 for a mentor that is not there.
pub(crate) fn no_such() -> ApiError {
    ApiError::no_such("Mentor")
}

fn check(
    conn: &mut DbConnection,
    state: &State,
    organisation: &str,
    before: Option<&MentorRow>,
    input: &MentorInput,
    faults: &Faults,
) -> Result<(), ApiError> {
    if let Some(Some(ProviderInput { settings: ProviderSettings { name, kind, .. }, .. })) = &input.provider
        && kind.is_empty()
        && !name.is_empty()
        && !state.config.has_provider(name)
    {
        faults.add("provider.name", format!("\"{name}\" is not configured: set `providers.{name}`."));
    }
    if let Some(unique_id) = input.unique_id
        && mentors::unique_id_is_taken(conn, unique_id)?
    {
        faults.add("unique_id", TAKEN);
    }
    if let Some(slug) = &input.slug
        && before.is_none_or(|before| before.slug != *slug)
        && mentors::slug_is_taken(conn, organisation, slug)?
    {
        faults.add("slug", TAKEN);
    }
    Ok(())
}

/// A mentor of which nothing was said yet.
fn blank(acting: &Acting, unique_id: Uuid, now: DateTime<Utc>) -> MentorRow {
    MentorRow {
        id: 0,
        unique_id: unique_id.into(),
        organisation: acting.organisation.clone(),
        name: String::new(),
        slug: String::new(),
        display_name: String::new(),
        description: String::new(),
        system_prompt: String::new(),
        llm_provider: String::new(),
        llm_name: String::new(),
        llm_temperature: None,
        metadata: None,
        provider: None,
        sealed_api_key: None,
        service_groups: json!([]).into(),
        created_by: acting.username.clone(),
        created_at: now.into(),
        updated_at: now.into(),
        deleted_at: None,
    }
}

/// Writes over a row what the request says.
fn apply(row: &mut MentorRow, input: MentorInput) -> Result<(), ApiError> {
    let texts = [
        (&mut row.name, input.name),
        (&mut row.slug, input.slug),
        (&mut row.display_name, input.display_name),
        (&mut row.description, input.description),
        (&mut row.system_prompt, input.system_prompt),
        (&mut row.llm_provider, input.llm_provider),
        (&mut row.llm_name, input.llm_name),
    ];
    for (place, text) in texts {
        if let Some(text) = text {
            *place = text;
        }
    }
    row.llm_temperature = input.llm_temperature.unwrap_or(row.llm_temperature);
    if let Some(metadata) = input.metadata {
        row.metadata = metadata.map(Json::from);
    }
    if let Some(groups) = input.service_groups {
        row.service_groups = json!(groups).into();
    }
    if let Some(provider) = input.provider {
        let settings: Option<Value> = provider
            .map(|provider| serde_json::to_value(provider.settings))
            .transpose()
            .map_err(|error| ApiError::internal(&error))?;
        row.provider = settings.map(Json::from);
    }
    Ok(())
}

fn seal(state: &State, mentor_id: i64, provider: Option<&ProviderInput>) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(api_key) = provider.and_then(|provider| provider.api_key.as_ref()) else { return Ok(None) };
    let (owner, field) = api_key_owner(mentor_id);
    let sealed = state.keys.seal(api_key.expose().as_bytes(), &owner, field);
    sealed.map(Some).map_err(|error| ApiError::internal(&error))
}

fn leads_to_the_same(before: &Option<ProviderSettings>, after: Option<&ProviderInput>) -> bool {
    let place = |settings: &ProviderSettings| {
        (settings.name.clone(), settings.kind.clone(), settings.base_url.clone(), settings.headers.clone())
    };
    before.as_ref().map(place) == after.map(|provider| place(&provider.settings))
}

/// The name in letters, digits and hyphens; where that is taken or empty, with the public id.
fn free_slug(conn: &mut DbConnection, row: &MentorRow) -> Result<String, ApiError> {
    let words: Vec<String> = row
        .name
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let slug: String = words.join("-").chars().take(SLUG_CHARS_MAX).collect();
    if slug.is_empty() || mentors::slug_is_taken(conn, &row.organisation, &slug)? {
        return Ok(unique_slug(&slug, row.unique_id.into()));
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
