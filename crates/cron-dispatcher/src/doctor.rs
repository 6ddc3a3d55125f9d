//! What the dispatcher finds when it examines itself: what is stuck.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use service_kit::doctor::{self, Examination, Finding, STUCK_AFTER};
use service_kit::error::ApiError;

use crate::context::Context;
use crate::error::DispatchError;
use crate::store::backlog::{self, Backlog};
use crate::store::{documents, overdue};

/// Agents on one page.
const PAGE: i64 = 10_000;

/// Examines what the dispatcher owns.
pub(crate) async fn examine(context: Arc<Context>) -> anyhow::Result<Examination> {
    let mut findings = doctor::of_database(&context.db, &context.clock).await?;
    let now = context.clock.now();
    let look = move |conn: &mut service_kit::database::DbConnection| {
        Ok::<_, DispatchError>((backlog::measure(conn)?, overdue::count_before(conn, now - STUCK_AFTER)?))
    };
    let (backlog, unheard) = context.db.read(look).await?;
    findings.extend(stuck(&backlog, unheard, now));
    Ok(Examination { findings, sealed: Vec::new() })
}

fn stuck(backlog: &Backlog, unheard: i64, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let late = |since: Option<DateTime<Utc>>| since.map(|since| now - since).filter(|age| *age > STUCK_AFTER);
    if let Some(age) = late(backlog.oldest_due) {
        findings.push(Finding::new(
            format!("a tick is due for {} minutes and was not fired", age.num_minutes()),
            "see why no dispatcher fires: its log says `set aside` of a schedule that cannot be fired, /readyz of a clock \
             or a database",
        ));
    }
    if let Some(age) = late(backlog.oldest_queued) {
        findings.push(Finding::new(
            format!("a run waits for {} minutes to be requested", age.num_minutes()),
            "see whether runners are there and fast enough (docs/scaling.md): the window is full",
        ));
    }
    if unheard > 0 {
        findings.push(Finding::new(
            format!("{unheard} runs were requested or announced, and nobody has answered for minutes"),
            "see `carillon bus status` for what waits, and whether runners, registry and deliverer are ready",
        ));
    }
    findings
}

#[derive(Deserialize)]
pub(crate) struct Page {
    /// The key of the last agent of the page before.
    #[serde(default)]
    after: String,
}

/// `GET /internal/doctor/agents/cron-dispatcher?after=`: the agents that are held, in order of their keys.
pub(crate) async fn list_agents(context: web::Data<Context>, page: web::Query<Page>) -> Result<HttpResponse, ApiError> {
    let after = page.into_inner().after;
    let agents =
        context.db.read(move |conn| documents::agent_keys(conn, &after, PAGE).map_err(DispatchError::from)).await?;
    Ok(HttpResponse::Ok().json(json!({ "agents": agents })))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_waits_for_minutes_is_stuck_and_what_is_due_now_is_not() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        let backlog = |minutes: i64| {
            let since = Some(now - TimeDelta::minutes(minutes));
            Backlog { stages: Vec::new(), oldest_queued: since, oldest_due: since }
        };
        assert_eq!(stuck(&backlog(-1), 0, now), []);
        assert_eq!(stuck(&backlog(4), 0, now), []);
        let found: Vec<String> = stuck(&backlog(7), 3, now).into_iter().map(|one| one.what).collect();
        assert_eq!(found.len(), 3);
        assert!(found[0].contains("7 minutes") && found[1].contains("7 minutes") && found[2].starts_with("3 runs"));
    }
}
