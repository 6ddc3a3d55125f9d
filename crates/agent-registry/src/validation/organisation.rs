//! What a request says of an organisation. Everything may be missing.

use chrono_tz::Tz;
use serde_json::Value;
use service_kit::secrets::Secret;

use super::fields::{Faults, Fields, Presence, Text};
use super::url;
use crate::config::DAYS_MAX;

/// The longest note and name.
pub(crate) const NOTE_CHARS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 255;
const URL_CHARS_MAX: usize = 2_000;
/// More than any limit that limits something.
const LIMIT_MAX: i64 = 1_000_000_000;
/// What becomes of the ticks that a pause kept from firing.
pub(crate) const CATCH_UPS: [&str; 3] = ["none", "latest", "all"];

/// What a request says of an organisation: of a number that may be none, `Some(None)` takes it away.
#[derive(Debug, Default)]
pub(crate) struct OrganisationInput {
    pub(crate) timezone: Option<String>,
    pub(crate) paused: Option<bool>,
    pub(crate) paused_note: Option<String>,
    pub(crate) catch_up: Option<&'static str>,
    pub(crate) default_provider: Option<String>,
    pub(crate) agents_max: Option<Option<i32>>,
    pub(crate) runs_in_flight_max: Option<Option<i32>>,
    pub(crate) callbacks_in_flight_max: Option<Option<i32>>,
    pub(crate) requests_per_minute: Option<Option<i32>>,
    pub(crate) logs_days: Option<Option<i32>>,
    pub(crate) ticks_days: Option<Option<i32>>,
    pub(crate) deliveries_days: Option<Option<i32>>,
    pub(crate) alert_url: Option<String>,
    /// As callback secrets: `""` changes nothing, null takes it away.
    pub(crate) alert_secret: Option<Option<Secret<String>>>,
}

impl OrganisationInput {
    /// Reads the body, noting all that is wrong with it.
    pub(crate) fn read(body: &Value, faults: &Faults) -> Self {
        let Some(fields) = Fields::of(body, Presence::Partial, faults) else { return Self::default() };
        let mut input = Self {
            timezone: timezone(&fields),
            paused: fields.boolean("paused"),
            paused_note: nullable(&fields, "paused_note", NOTE_CHARS_MAX),
            catch_up: fields.choice("catch_up", &CATCH_UPS),
            default_provider: nullable(&fields, "default_provider", NAME_CHARS_MAX),
            alert_url: nullable(&fields, "alert_url", URL_CHARS_MAX),
            alert_secret: secret(&fields),
            ..Self::default()
        };
        if input.alert_url.as_ref().is_some_and(|text| !text.is_empty() && !url::is_valid(text)) {
            fields.fault("alert_url", url::BAD_URL);
        }
        check_pause(&fields, &input);
        if let Some(limits) = fields.given("limits").and_then(|_| fields.object("limits")) {
            let limit = |name| number(&limits, name, LIMIT_MAX);
            input.agents_max = limit("agents_max");
            input.runs_in_flight_max = limit("runs_in_flight_max");
            input.callbacks_in_flight_max = limit("callbacks_in_flight_max");
            input.requests_per_minute = limit("requests_per_minute");
        }
        if let Some(retention) = fields.given("retention").and_then(|_| fields.object("retention")) {
            let days = |name| number(&retention, name, DAYS_MAX.into());
            input.logs_days = days("logs_days");
            input.ticks_days = days("ticks_days");
            input.deliveries_days = days("deliveries_days");
        }
        input
    }
}

/// A choice that nobody would follow, and a note of no pause.
fn check_pause(fields: &Fields<'_>, input: &OrganisationInput) {
    if input.catch_up.is_some() && input.paused != Some(false) {
        fields.fault("catch_up", "Says what becomes of the ticks of a pause that ends: only with `paused` false.");
    }
    if input.paused == Some(false) && input.paused_note.as_ref().is_some_and(|note| !note.is_empty()) {
        fields.fault("paused_note", "Only a pause has a note.");
    }
}

fn timezone(fields: &Fields<'_>) -> Option<String> {
    let name = fields.text("timezone", Text::FILLED.max(NAME_CHARS_MAX))?;
    let zone = name.parse::<Tz>();
    if zone.is_err() {
        fields.fault("timezone", format!("\"{name}\" is no IANA time zone."));
    }
    zone.ok().map(|zone| zone.name().to_owned())
}

/// Text that null empties.
fn nullable(fields: &Fields<'_>, name: &str, max: usize) -> Option<String> {
    fields.nullable_text(name, Text::OPTIONAL.max(max)).map(Option::unwrap_or_default)
}

fn secret(fields: &Fields<'_>) -> Option<Option<Secret<String>>> {
    let said = fields.nullable_text("alert_secret", Text::OPTIONAL.max(NAME_CHARS_MAX))?;
    if said.as_deref() == Some("") { None } else { Some(said.map(Secret::new)) }
}

/// A whole number from 1, or null.
fn number(fields: &Fields<'_>, name: &str, max: i64) -> Option<Option<i32>> {
    let Some(number) = fields.integer(name)? else { return Some(None) };
    let fault = match number {
        ..1 => "Ensure this value is greater than or equal to 1.".to_owned(),
        _ if number > max => format!("Ensure this value is less than or equal to {max}."),
        _ => return i32::try_from(number).ok().map(Some),
    };
    fields.fault(name, fault);
    None
}
