//! The backlog: how much waits, and for how long.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Timestamp};

use super::stage::Stage;
use super::time;
use crate::schema::{runs, schedules};

/// How much waits, and for how long.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Runs of each stage that is not final.
    pub(crate) stages: Vec<(&'static str, i64)>,
    /// When the oldest queued run was made.
    pub(crate) oldest_queued: Option<DateTime<Utc>>,
    /// When the next tick fires, or should have fired.
    pub(crate) oldest_due: Option<DateTime<Utc>>,
}

/// Counts along the indexes of the stages, each as long as what waits there.
pub(crate) fn measure(conn: &mut DbConnection) -> QueryResult<Backlog> {
    let mut stages = Vec::with_capacity(Stage::UNFINISHED.len());
    for stage in Stage::UNFINISHED {
        let count: i64 = runs::table.filter(runs::stage.eq(stage.literal())).count().get_result(conn)?;
        stages.push((stage.as_str(), count));
    }
    // Not the first by id: where none waits, SQLite would look for it among all runs.
    let queued = runs::table.filter(runs::stage.eq(Stage::Queued.literal()));
    let oldest_queued: Option<Timestamp> = queued.select(diesel::dsl::min(runs::requested_at)).first(conn)?;
    let oldest_due: Option<Option<Timestamp>> = schedules::table
        .filter(schedules::next_fire_at.is_not_null())
        .order(schedules::next_fire_at)
        .select(schedules::next_fire_at)
        .first(conn)
        .optional()?;
    Ok(Backlog { stages, oldest_queued: time(oldest_queued), oldest_due: time(oldest_due.flatten()) })
}
