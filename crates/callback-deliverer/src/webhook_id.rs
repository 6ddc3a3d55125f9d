//! The ids of callbacks: made of what they tell, so that it is told once, whoever tells it and how often.

use chrono::{DateTime, Utc};
use model::id::{AgentId, RunId};
use uuid::Uuid;

/// Names the callback about a run for ever: the same installation and run give the same id.
#[must_use]
pub fn of_run(installation: Uuid, run: RunId) -> Uuid {
    Uuid::new_v5(&installation, format!("log:{run}").as_bytes())
}

/// Names the callback about a skipped tick for ever.
#[must_use]
pub fn of_tick(installation: Uuid, agent_id: AgentId, fire_time: DateTime<Utc>) -> Uuid {
    Uuid::new_v5(&installation, format!("tick:{agent_id}:{}", fire_time.timestamp_micros()).as_bytes())
}

/// Names a warning, so that each is given once: the endpoint, since when it is failing, and how far that has come.
#[must_use]
pub fn of_warning(installation: Uuid, agent_id: i64, failing_since: DateTime<Utc>, percent: i32) -> Uuid {
    let since = failing_since.timestamp_micros();
    Uuid::new_v5(&installation, format!("warning:{agent_id}:{since}:{percent}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_id_depends_on_installation_and_run_alone() {
        let installation = Uuid::from_u128(1);
        assert_eq!(of_run(installation, RunId(1)), of_run(installation, RunId(1)));
        assert_ne!(of_run(installation, RunId(1)), of_run(installation, RunId(2)));
        assert_ne!(of_run(installation, RunId(1)), of_run(Uuid::from_u128(2), RunId(1)));
    }
}
