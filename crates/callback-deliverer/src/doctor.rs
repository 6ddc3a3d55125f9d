//! What the deliverer finds when it examines itself: what is stuck, and what nobody can open.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use service_kit::database::DatabaseError;
use service_kit::doctor::{self, Examination, Finding, STUCK_AFTER};

use crate::core::Core;
use crate::store::backlog;

/// Where secrets are.
const SEALED: [(&str, &str); 3] =
    [("endpoints", "sealed_secret"), ("endpoints", "previous_sealed_secret"), ("organisations", "alert_sealed_secret")];

/// Examines what the deliverer owns.
pub(crate) async fn examine(core: Arc<Core>) -> anyhow::Result<Examination> {
    let mut findings = doctor::of_database(&core.db, &core.clock).await?;
    let (now, keys) = (core.clock.now(), core.secrets.keys().clone());
    let (backlog, sealed) = core
        .db
        .read(move |connection| {
            let backlog = backlog::measure(connection, now.into())?;
            Ok::<_, DatabaseError>((backlog, doctor::sealed(connection, &SEALED, &keys)?))
        })
        .await?;
    findings.extend(stuck(backlog.due, backlog.oldest_due.map(|due_at| *due_at), now));
    findings.extend(doctor::of_sealed(&sealed));
    Ok(Examination { findings, sealed })
}

fn stuck(due: i64, oldest_due: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Finding> {
    let age = oldest_due.map(|oldest| now - oldest).filter(|age| *age > STUCK_AFTER)?;
    let what = format!("{due} deliveries are due, the oldest for {} minutes", age.num_minutes());
    let advice = "see whether deliverers are ready and have room (`callbacks.in_flight_max`, docs/scaling.md); one slow \
                  receiver with a long queue looks the same: `carillon deliveries list`";
    Some(Finding::new(what, advice))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_is_due_for_minutes_is_stuck() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(stuck(0, None, now), None);
        assert_eq!(stuck(9, Some(now - TimeDelta::minutes(4)), now), None);
        assert!(stuck(9, Some(now - TimeDelta::minutes(6)), now).unwrap().what.starts_with("9 deliveries"));
    }
}
