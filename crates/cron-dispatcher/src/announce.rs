//! Announce: what ended goes to those who need it, in batches, until each says that it holds it.

use bus::Message;
use chrono::{DateTime, Utc};
use model::event::{Event, RunCancel, RunsFinished, RunsRecorded, TicksSkipped};
use model::id::RunId;
use model::run::{RunAnswer, RunRecord, RunRequest, ScheduleRecord, SkippedTick};
use model::wire::Wire;
use service_kit::database::DbConnection;
use std::collections::HashMap;

use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::outcome::Ended;
use crate::pieces::pieces;
use crate::store::runs::{self, RunRow};
use crate::store::schedules::{self, Schedule};

/// Most runs, ticks or schedules in one message: as many of each message of a batch must fit one statement of whoever
/// takes them.
const RUNS_MAX: usize = 100;
/// Most bytes of runs in one message, unless one alone is larger.
const BYTES_MAX: usize = 256 * 1024;

/// A run in its present state, and who still needs to hear of it.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) record: RunRecord,
    pub(crate) to_registry: bool,
    /// Decided when the run ended: an agent that lost its endpoint since then is the deliverer's to judge.
    pub(crate) to_deliverer: bool,
}

/// What is to be announced of these runs.
pub(crate) fn announcements(conn: &mut DbConnection, ids: &[i64]) -> Result<Vec<Announcement>, DispatchError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let loaded = runs::load(conn, ids)?;
    let agent_ids: Vec<i64> = loaded.iter().map(|(row, ..)| row.run.agent_id.0).collect();
    let schedules: HashMap<i64, Schedule> =
        schedules::load(conn, &agent_ids)?.into_iter().map(|schedule| (schedule.agent_id, schedule)).collect();
    let announce = |(row, request, answer): runs::WithBodies| {
        let schedule = schedules.get(&row.run.agent_id.0);
        Announcement {
            to_registry: !row.registry_held,
            to_deliverer: row.stage.state().is_final() && !row.deliverer_held,
            record: record(row, request, answer, schedule.and_then(|schedule| schedule.next_fire_at)),
        }
    };
    Ok(loaded.into_iter().map(announce).collect())
}

/// A run as everyone else sees it.
pub(crate) fn record(
    row: RunRow,
    request: RunRequest,
    answer: Option<RunAnswer>,
    next_fire_time: Option<DateTime<Utc>>,
) -> RunRecord {
    let (state, agent_version) = (row.stage.state(), row.agent_version);
    RunRecord {
        run: row.run,
        state,
        prompt: request.prompt,
        requested_at: row.requested_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        result: answer.map(|answer| answer.result),
        next_fire_time,
        finished_timing_version: row.finished_timing_version,
        agent_version,
    }
}

/// Tells the deliverer of ticks that have no run.
pub(crate) async fn announce_skipped(context: &Context, ticks: &[SkippedTick]) -> Result<(), DispatchError> {
    let now = context.clock.now();
    let batch = |ticks: &[SkippedTick]| message(&TicksSkipped { ticks: ticks.to_vec() }, now);
    let messages: Vec<Message> = ticks.chunks(RUNS_MAX).map(batch).collect();
    if !messages.is_empty() {
        context.bus.publish(messages).await?;
    }
    Ok(())
}

/// Tells the registry where schedules stand of which no run's record says so. So they stood at `so_at`, for what is said of an
/// edit meanwhile. Said once: what is lost with a process is
/// made good by the agent's next tick; that a one-off is finished is said again (`watch.rs`).
pub(crate) async fn announce_schedules(
    context: &Context,
    schedules: &[ScheduleRecord],
    so_at: DateTime<Utc>,
) -> Result<(), DispatchError> {
    let batch = |some: &[ScheduleRecord]| message(&RunsRecorded { runs: Vec::new(), schedules: some.to_vec() }, so_at);
    let messages: Vec<Message> = schedules.chunks(RUNS_MAX).map(batch).collect();
    if !messages.is_empty() {
        context.bus.publish(messages).await?;
    }
    Ok(())
}

/// Tells every runner to let go of these runs.
pub(crate) async fn stop(context: &Context, run_ids: Vec<RunId>) -> Result<(), DispatchError> {
    if run_ids.is_empty() {
        return Ok(());
    }
    let now = context.clock.now();
    Ok(context.bus.broadcast(message(&RunCancel { run_ids, complete: false }, now)).await?)
}

/// Announces these runs as they are by now, a piece after the other: for whoever has committed what became of them. Of
/// those that ended, what is not heard, or never said after a crash, is announced again when it is overdue.
pub(crate) async fn announce_pieces(context: &Context, pieces: Vec<Vec<i64>>) -> Result<(), DispatchError> {
    for piece in pieces {
        let announcements = context.db.read(move |conn| announcements(conn, &piece)).await?;
        announce(context, announcements).await?;
    }
    Ok(())
}

/// Announces runs that have ended.
pub(crate) async fn announce_ended(context: &Context, ended: &[Ended]) -> Result<(), DispatchError> {
    announce_pieces(context, pieces(ended.iter().map(|one| (one.run.id.0, one.bytes)))).await
}

/// Tells the registry and the deliverer, each what it needs, in one publish.
pub(crate) async fn announce(context: &Context, announcements: Vec<Announcement>) -> Result<(), DispatchError> {
    let now = context.clock.now();
    let mut messages = Vec::new();
    let finished = announcements.iter().filter(|one| one.to_deliverer).map(|one| one.record.clone()).collect();
    for runs in batches(finished) {
        messages.push(message(&RunsFinished { runs }, now));
    }
    let recorded = announcements.into_iter().filter(|one| one.to_registry).map(|one| one.record).collect();
    for runs in batches(recorded) {
        messages.push(message(&RunsRecorded { runs, schedules: Vec::new() }, now));
    }
    if !messages.is_empty() {
        context.bus.publish(messages).await?;
    }
    Ok(())
}

fn message<E: Event>(event: &E, now: DateTime<Utc>) -> Message {
    Message::new(E::KIND, NAME, now, Wire::encode(event))
}

fn batches(records: Vec<RunRecord>) -> Vec<Vec<RunRecord>> {
    let mut batches: Vec<Vec<RunRecord>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size =
            record.prompt.len() + record.result.as_ref().map_or(0, |result| result.output.len() + result.log.len());
        match batches.last_mut() {
            Some(batch) if batch.len() < RUNS_MAX && bytes + size <= BYTES_MAX => {
                batch.push(record);
                bytes += size;
            }
            _ => {
                batches.push(vec![record]);
                bytes = size;
            }
        }
    }
    batches
}
