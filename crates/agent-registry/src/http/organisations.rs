//! `/api/core/orgs/`: an organisation's settings, its limits, and its end.
//!
//! A change is stored with its document in one transaction. A pause must bite at once, so its document is also handed
//! to the dispatcher before the answer; with the dispatcher away the answer is 503, although the pause is stored and
//! will be announced: asking again changes nothing and is answered when the dispatcher has heard of it.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use model::document::DocumentKind;
use service_kit::database::DbConnection;
use service_kit::egress::EgressError;
use service_kit::error::ApiError;
use url::Url;

use super::body::{self, Form};
use super::organisation_view::OrganisationView;
use super::page::PageRequest;
use super::request;
use crate::access::{self, Acting};
use crate::audit;
use crate::documents::{self, Providers, Written};
use crate::erase;
use crate::state::{State, alert_secret_owner};
use crate::store::documents::DocumentName;
use crate::store::mentors;
use crate::store::organisations::{self, OrganisationRow};
use crate::validation::fields::Faults;
use crate::validation::form;
use crate::validation::organisation::OrganisationInput;

/// `GET /api/core/orgs/`: those that the caller may see.
pub(super) async fn list_organisations(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let known = request::known(&request)?;
    let only = known.organisations()?.map(str::to_owned);
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let found = state.db.read(move |conn| {
        let Some(only) = only else {
            let page = page.of(organisations::count(conn)?)?;
            return Ok::<_, ApiError>((page, organisations::page(conn, page.window())?));
        };
        let own: Vec<OrganisationRow> = organisations::find(conn, &only)?.into_iter().collect();
        Ok((page.of(i64::from(!own.is_empty()))?, own))
    });
    let (page, rows) = found.await?;
    Ok(page.answer(&state, &request, &query, rows.into_iter().map(OrganisationView::from).collect()))
}

/// `GET /api/core/orgs/{org}/`
pub(super) async fn get_organisation(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &request::organisation(&request)?)?;
    let found = state.db.read(move |conn| Ok::<_, ApiError>(organisations::find(conn, &acting.organisation)?)).await?;
    let row = found.ok_or_else(|| ApiError::no_such("Organisation"))?;
    Ok(HttpResponse::Ok().json(OrganisationView::from(row)))
}

/// `PATCH /api/core/orgs/{org}/`
pub(super) async fn patch_organisation(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &request::organisation(&request)?)?;
    let form = Form { shape: form::ORGANISATION, partial: true };
    let body = body::read(&state, &request, payload, form).await?;
    let faults = Faults::default();
    let input = OrganisationInput::read(&body, &faults);
    check(&state, &input, &faults);
    faults.into_errors().into_result()?;

    let organisation = acting.organisation.clone();
    let (about_pausing, about_logs) = (input.paused.is_some(), input.logs_days.is_some());
    let writer = Arc::clone(&state);
    let stored = state.db.write(move |conn| {
        let now = writer.clock.now();
        let mut written = Written::new();
        access::enter_organisation(conn, &acting, now, &mut written)?;
        let row = change(conn, &writer, &acting, input, now, &mut written)?;
        Ok::<_, ApiError>((row, written))
    });
    let (row, written) = stored.await?;
    state.outbox.announce(written);
    state.request_limits.changed();
    if about_logs {
        state.broom.retention_changed(organisation.clone());
    }
    tracing::info!(organisation, paused = row.paused, "an organisation was changed");
    if about_pausing {
        hand_over(&state, &organisation).await?;
    }
    Ok(HttpResponse::Ok().json(OrganisationView::from(row)))
}

/// `DELETE /api/core/orgs/{org}/`: its keys are gone at once, the rest in the background.
pub(super) async fn delete_organisation(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let acting = request::admit_to(&request, &request::organisation(&request)?)?;
    let organisation = acting.organisation.clone();
    let clock = state.clock.clone();
    let row = state.db.write(move |conn| erase::begin(conn, &acting, clock.now())).await?;
    state.recent_keys.clear();
    state.counted.notify_one();
    state.broom.sweep_now();
    tracing::warn!(organisation, "an organisation is being erased");
    Ok(HttpResponse::Accepted().json(OrganisationView::from(row)))
}

/// What only the configuration can tell.
fn check(state: &State, input: &OrganisationInput, faults: &Faults) {
    if let Some(name) = input.default_provider.as_deref().filter(|name| !name.is_empty())
        && !state.config.has_provider(name)
    {
        faults.add("default_provider", format!("\"{name}\" is not configured: set `providers.{name}`."));
    }
    if let Some(Ok(url)) = input.alert_url.as_deref().map(Url::parse)
        && let Err(refusal @ EgressError::NotPublic { .. }) = state.egress.check_url(&url)
    {
        faults.add("alert_url", format!("{refusal}."));
    }
}

fn change(
    conn: &mut DbConnection,
    state: &State,
    acting: &Acting,
    input: OrganisationInput,
    now: DateTime<Utc>,
    written: &mut Written,
) -> Result<OrganisationRow, ApiError> {
    let before = organisations::find_for_update(conn, &acting.organisation)?;
    let before = before.ok_or_else(|| ApiError::no_such("Organisation"))?;
    let mut row = before.clone();
    apply(state, &mut row, input)?;
    organisations::update(conn, &row)?;
    documents::write_organisation(conn, &row, now, written)?;
    if row.default_provider != before.default_provider {
        let mut mentors = mentors::without_own_provider(conn, &row.key)?;
        mentors.sort_by_key(|mentor| mentor.id.to_string());
        for mentor in mentors {
            documents::write_mentor(conn, &mentor, Providers::of(Some(&row), &state.config), now, written)?;
        }
    }
    let fields = changed_fields(&before, &row);
    audit::record(conn, acting, "organisation.changed", &row.key, &fields, now)?;
    Ok(row)
}

fn apply(state: &State, row: &mut OrganisationRow, input: OrganisationInput) -> Result<(), ApiError> {
    let texts = [
        (&mut row.timezone, input.timezone),
        (&mut row.paused_note, input.paused_note),
        (&mut row.default_provider, input.default_provider),
        (&mut row.alert_url, input.alert_url),
    ];
    for (place, text) in texts {
        if let Some(text) = text {
            *place = text;
        }
    }
    let numbers = [
        (&mut row.agents_max, input.agents_max),
        (&mut row.runs_in_flight_max, input.runs_in_flight_max),
        (&mut row.callbacks_in_flight_max, input.callbacks_in_flight_max),
        (&mut row.requests_per_minute, input.requests_per_minute),
        (&mut row.logs_days, input.logs_days),
        (&mut row.ticks_days, input.ticks_days),
        (&mut row.deliveries_days, input.deliveries_days),
    ];
    for (place, number) in numbers {
        *place = number.unwrap_or(*place);
    }
    match (row.paused, input.paused) {
        (true, Some(false)) => {
            row.resumed_with = input.catch_up.map(str::to_owned);
            row.paused_note.clear();
        }
        (false, Some(true)) => row.resumed_with = None,
        _ => {}
    }
    row.paused = input.paused.unwrap_or(row.paused);
    if !row.paused && !row.paused_note.is_empty() {
        let faults = Faults::default();
        faults.add("paused_note", "Only a pause has a note.");
        faults.into_errors().into_result()?;
    }
    match input.alert_secret {
        None => {}
        Some(None) => row.sealed_alert_secret = None,
        Some(Some(secret)) => {
            let (owner, field) = alert_secret_owner(&row.key);
            let sealed = state.keys.seal(secret.expose().as_bytes(), &owner, field);
            row.sealed_alert_secret = Some(sealed.map_err(|error| ApiError::internal(&error))?);
        }
    }
    Ok(())
}

fn changed_fields(before: &OrganisationRow, after: &OrganisationRow) -> Vec<&'static str> {
    audit::changed!(before, after, OrganisationRow {
        timezone => "timezone",
        paused => "paused",
        paused_note => "paused_note",
        default_provider => "default_provider",
        agents_max => "limits.agents_max",
        runs_in_flight_max => "limits.runs_in_flight_max",
        callbacks_in_flight_max => "limits.callbacks_in_flight_max",
        requests_per_minute => "limits.requests_per_minute",
        logs_days => "retention.logs_days",
        ticks_days => "retention.ticks_days",
        deliveries_days => "retention.deliveries_days",
        alert_url => "alert_url",
        sealed_alert_secret => "alert_secret",
    } but not { key, resumed_with, erasing_since, created_at })
}

/// Hands the organisation's document to the dispatcher.
pub(super) async fn hand_over(state: &State, organisation: &str) -> Result<(), ApiError> {
    let name = DocumentName { kind: DocumentKind::Organisation, key: organisation.to_owned() };
    let loaded = state.db.read(move |conn| Ok::<_, ApiError>(crate::store::documents::load(conn, &[name])?)).await?;
    Ok(state.dispatcher.hold(loaded).await?)
}
