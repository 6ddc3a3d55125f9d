//! Endpoints: how well they are, a ping, and enabling one that was disabled.

use actix_web::HttpResponse;
use actix_web::web::{self, Json};
use model::id::AgentId;
use serde::Serialize;
use service_kit::database::{DatabaseError, DbConnection, Timestamp};
use service_kit::error::ApiError;
use uuid::Uuid;

use super::Within;
use super::deliveries::view as delivery_view;
use super::moment::Moment;
use crate::core::Core;
use crate::lanes::Lane;
use crate::payload;
use crate::store::states::{self, EndpointState};
use crate::store::{endpoints, intake, listing, new_delivery};
use crate::words::{DisableReason, OutcomeClass, Status};

/// The most endpoints that are listed; with more, those failing longest.
const LISTED_MAX: i64 = 10_000;

/// An endpoint as it is shown: never its URL or secret.
#[derive(Debug, Serialize)]
pub(super) struct EndpointView {
    periodic_agent: i64,
    organisation: String,
    #[serde(flatten)]
    state: StateView,
    /// Deliveries that wait until it is enabled.
    held: i64,
    pending: i64,
    exhausted: i64,
}

/// How well an endpoint is.
#[derive(Debug, Default, Serialize)]
struct StateView {
    callback_state: &'static str,
    failing_since: Option<Moment>,
    failures: i64,
    last_failure_at: Option<Moment>,
    last_outcome: Option<OutcomeClass>,
    /// How far it has come with the time after which it is disabled, as far as a warning was given: 50, 70, 90, and 100
    /// once it is.
    warned_percent: i32,
    disabled_at: Option<Moment>,
    disabled_reason: Option<DisableReason>,
}

/// One of many endpoints that are not well.
#[derive(Debug, Serialize)]
pub(super) struct NotWell {
    periodic_agent: i64,
    #[serde(flatten)]
    state: StateView,
}

impl From<Option<EndpointState>> for StateView {
    fn from(state: Option<EndpointState>) -> Self {
        let Some(state) = state else { return Self { callback_state: "ok", ..Self::default() } };
        Self {
            callback_state: if state.disabled_at.is_some() { "disabled" } else { "failing" },
            failing_since: Some(state.failing_since.into()),
            failures: state.failures,
            last_failure_at: Some(state.last_failure_at.into()),
            last_outcome: Some(state.last_outcome),
            warned_percent: state.warned_percent,
            disabled_at: state.disabled_at.map(Moment::from),
            disabled_reason: state.disabled_reason,
        }
    }
}

/// `GET /internal/endpoints`: those that are not well, of every organisation; the rest is.
pub(super) async fn list_not_well(core: web::Data<Core>) -> Result<Json<Vec<NotWell>>, ApiError> {
    let found = core.db.read(|connection| Ok::<_, DatabaseError>(states::not_well(connection, LISTED_MAX)?)).await?;
    let shown = found.into_iter().map(|state| NotWell { periodic_agent: state.agent_id, state: Some(state).into() });
    Ok(Json(shown.collect()))
}

/// `GET /internal/endpoints/{id}`, by the id of its agent.
pub(super) async fn show_endpoint(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<Json<EndpointView>, ApiError> {
    let (id, within) = (super::id(&path)?, within.into_inner());
    Ok(Json(core.db.read(move |connection| show(connection, id, &within)).await?))
}

/// `POST /internal/endpoints/{id}/enable`: it counts as well again, and what was held is let go, a little at a time.
pub(super) async fn enable_endpoint(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<Json<EndpointView>, ApiError> {
    let (id, within) = (super::id(&path)?, within.into_inner());
    let enabled = core.db.write(move |connection| {
        show(connection, id, &within)?;
        states::enable(connection, &[id])?;
        show(connection, id, &within)
    });
    let shown = enabled.await?;
    core.lanes.forget(&Lane::Endpoint(id));
    core.enabled.notify_one();
    tracing::info!(agent.id = id, organisation = %shown.organisation, "an endpoint was enabled");
    Ok(Json(shown))
}

/// `POST /internal/endpoints/{id}/test`: 202 with a delivery that is made once, whatever the endpoint's state.
pub(super) async fn test_endpoint(
    core: web::Data<Core>,
    path: web::Path<String>,
    within: web::Query<Within>,
) -> Result<HttpResponse, ApiError> {
    let (id, within) = (super::id(&path)?, within.into_inner());
    let now = Timestamp::from(core.clock.now());
    let made = core.db.write(move |connection| {
        let shown = show(connection, id, &within)?;
        let undelivered = intake::count_undelivered(connection, &[id])?.get(&id).copied().unwrap_or(0);
        let body = payload::of_ping(AgentId(id), undelivered, *now);
        let delivery = new_delivery::make_ping(connection, Uuid::new_v4(), &shown.organisation, id, body, now)?;
        Ok::<_, ApiError>(listing::find(connection, delivery)?)
    });
    let (row, attempts) = made.await?.ok_or_else(|| ApiError::no_such("Delivery"))?;
    core.due.notify_one();
    Ok(HttpResponse::Accepted().json(delivery_view(row, Some(attempts))))
}

fn show(connection: &mut DbConnection, id: i64, within: &Within) -> Result<EndpointView, ApiError> {
    let held = endpoints::of_agents(connection, &[id])?.remove(&id);
    let held = held.filter(|held| held.url.is_some() && within.has(&held.organisation));
    let held = held.ok_or_else(|| ApiError::no_such("Endpoint"))?;
    let state = states::of_agents(connection, &[id])?.remove(&id);
    let counts = listing::count_undelivered(connection, id)?;
    let count = |wanted: Status| counts.iter().find(|(status, _)| *status == wanted).map_or(0, |(_, count)| *count);
    Ok(EndpointView {
        periodic_agent: id,
        organisation: held.organisation,
        state: state.into(),
        held: count(Status::Held),
        pending: count(Status::Pending),
        exhausted: count(Status::Exhausted),
    })
}
