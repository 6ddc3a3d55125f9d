//! An organisation as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::organisations::OrganisationRow;
use crate::validation::time::render;

/// An organisation, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organisation)]
pub(super) struct OrganisationView {
    platform_key: String,
    timezone: String,
    paused: bool,
    paused_note: String,
    limits: Limits,
    retention: Retention,
    default_provider: String,
    alert_url: String,
    alert_secret_set: bool,
    erasing: bool,
    created_at: String,
}

/// What is none is not limited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganisationLimits)]
struct Limits {
    agents_max: Option<i32>,
    runs_in_flight_max: Option<i32>,
    callbacks_in_flight_max: Option<i32>,
    requests_per_minute: Option<i32>,
}

/// What is none is as the configuration says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganisationRetention)]
struct Retention {
    logs_days: Option<i32>,
    ticks_days: Option<i32>,
    deliveries_days: Option<i32>,
}

impl From<OrganisationRow> for OrganisationView {
    fn from(row: OrganisationRow) -> Self {
        Self {
            platform_key: row.key,
            timezone: row.timezone,
            paused: row.paused,
            paused_note: row.paused_note,
            limits: Limits {
                agents_max: row.agents_max,
                runs_in_flight_max: row.runs_in_flight_max,
                callbacks_in_flight_max: row.callbacks_in_flight_max,
                requests_per_minute: row.requests_per_minute,
            },
            retention: Retention {
                logs_days: row.logs_days,
                ticks_days: row.ticks_days,
                deliveries_days: row.deliveries_days,
            },
            default_provider: row.default_provider,
            alert_url: row.alert_url,
            alert_secret_set: row.sealed_alert_secret.is_some(),
            erasing: row.erasing_since.is_some(),
            created_at: render(*row.created_at),
        }
    }
}
