//! What the registry finds when it examines itself: what nobody holds, and what nobody can open.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::json;
use service_kit::database::DatabaseError;
use service_kit::doctor::{self, Examination, Finding, STUCK_AFTER};
use service_kit::error::ApiError;

use crate::state::State;
use crate::store::documents;

/// Agents on one page.
const PAGE: i64 = 10_000;

/// Where secrets are.
const SEALED: [(&str, &str); 4] = [
    ("mentors", "sealed_api_key"),
    ("agents", "sealed_callback_secret"),
    ("agents", "sealed_previous_secret"),
    ("organisations", "sealed_alert_secret"),
];

/// Examines what the registry owns.
pub(crate) async fn examine(state: Arc<State>) -> anyhow::Result<Examination> {
    let mut findings = doctor::of_database(&state.db, &state.clock).await?;
    let keys = state.keys.clone();
    let (unheld, sealed) = state
        .db
        .read(move |conn| Ok::<_, DatabaseError>((documents::unheld(conn)?, doctor::sealed(conn, &SEALED, &keys)?)))
        .await?;
    // A version is the time of its making, in microseconds.
    let oldest = unheld.first().and_then(|oldest| DateTime::from_timestamp_micros(oldest.version));
    let age = oldest.map(|oldest| state.clock.now() - oldest).filter(|age| *age > STUCK_AFTER);
    if let Some(age) = age {
        findings.push(Finding::new(
            format!(
                "{} documents are not held by those who need them, the oldest for {} minutes",
                unheld.len(),
                age.num_minutes()
            ),
            "see whether dispatcher and deliverer are ready, and `carillon bus dead-letters list` of their documents",
        ));
    }
    findings.extend(doctor::of_sealed(&sealed));
    Ok(Examination { findings, sealed })
}

/// The routes, to be mounted under `/internal`.
pub(crate) fn routes(config: &mut web::ServiceConfig, state: &web::Data<State>) {
    let agents = web::resource("/doctor/agents/agent-registry").app_data(state.clone());
    config.service(agents.route(web::get().to(list_agents)));
}

#[derive(Deserialize)]
struct Page {
    /// The key of the last agent of the page before.
    #[serde(default)]
    after: String,
}

/// `GET /internal/doctor/agents/agent-registry?after=`: the agents that the dispatcher said that it holds, in order of
/// their keys.
async fn list_agents(state: web::Data<State>, page: web::Query<Page>) -> Result<HttpResponse, ApiError> {
    let after = page.into_inner().after;
    let agents =
        state.db.read(move |conn| Ok::<_, DatabaseError>(documents::held_agent_keys(conn, &after, PAGE)?)).await?;
    Ok(HttpResponse::Ok().json(json!({ "agents": agents })))
}
