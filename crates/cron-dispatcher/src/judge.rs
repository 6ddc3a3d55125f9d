//! The one judge of every run: takes its first answer, whoever gives it, and no other.
//!
//! An answer's bytes are kept as they came. A later answer, or one to another run attempt, changes nothing; so a run
//! that was asked twice still has one result, one log and one callback.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use model::event::RunStarted;
use model::id::RunId;
use model::run::{RunAnswer, RunReason, RunResult, RunState};
use model::wire::Wire;
use service_kit::database::DbConnection;
use service_kit::traces::Place;

use crate::announce::{Announcement, announcements};
use crate::chain::{Reached, arrive};
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::store::runs::{self, RunRow, Standing};
use crate::store::stage::Stage;
use crate::store::{answers, let_go, overdue, schedules};

/// Takes first answers. Returns what is to be announced of the runs that ended by them.
pub(crate) fn take_answers(
    conn: &mut DbConnection,
    given: &[(RunAnswer, Bytes)],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Vec<Announcement>, DispatchError> {
    let check_at = now + config.overdue(1);
    let ids: Vec<i64> = given.iter().map(|(answer, _)| answer.run_id.0).collect();
    let standing = runs::standing(conn, &ids)?;
    let agent_ids: Vec<i64> = standing.values().map(|one| one.agent_id).collect();
    // Before any run ends: who finds one under way and makes its tick wait for it, has done so by then.
    let queueing = schedules::lock_concerned(conn, &agent_ids)?;
    let may_heal = |answer: &RunAnswer| {
        let again = standing.get(&answer.run_id.0).is_some_and(|one| one.may_try_again(answer.run_attempt));
        again && answer.result.reason.is_some_and(heals)
    };
    runs::lock(conn, &ids)?;
    let (failed, last): (Vec<_>, Vec<_>) = given.iter().partition(|(answer, _)| may_heal(answer));
    for (answer, _) in failed {
        try_again(conn, answer, config, now)?;
    }
    let ended = answers::take(conn, &last, check_at)?;
    schedules::end_overlap(conn, &queueing)?;
    let mut announcements = announcements(conn, &ended)?;
    // An answer implies the start.
    let unstarted = announcements.iter().filter(|one| !is_started(&standing, one));
    let mut reached: Vec<Reached> = unstarted.map(|one| reached(one, RunState::Running)).collect();
    reached.extend(announcements.iter().map(|one| self::reached(one, one.record.state)));
    arrive(conn, &reached, now)?;
    let mut uncalled = Vec::new();
    for one in announcements.iter_mut().filter(|one| !one.calls_back) {
        one.to_deliverer = false;
        uncalled.push(one.record.run.id.0);
    }
    if !uncalled.is_empty() {
        runs::need_no_delivery(conn, &uncalled)?;
    }
    Ok(announcements)
}

/// Notes runs that have begun. Returns what is to be announced of them.
pub(crate) fn take_starts(
    conn: &mut DbConnection,
    starts: &[RunStarted],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Vec<Announcement>, DispatchError> {
    let ids: Vec<i64> = starts.iter().map(|start| start.run_id.0).collect();
    let known = runs::load(conn, &ids)?;
    let standing = runs::standing(conn, &ids)?;
    let agent_ids: Vec<i64> = standing.values().map(|one| one.agent_id).collect();
    schedules::lock_concerned(conn, &agent_ids)?;
    let mut begun = Vec::with_capacity(starts.len());
    for start in starts {
        let Some((_, request, _)) = known.iter().find(|(row, ..)| row.run.id == start.run_id) else { continue };
        // By whichever clock is later: a runner's may be behind.
        let verdict_at = start.started_at.max(now) + request.timeout + config.verdict_grace();
        if runs::start(conn, start.run_id, start.run_attempt, start.started_at, verdict_at)? {
            begun.push(start.run_id.0);
        }
    }
    let announcements = announcements(conn, &begun)?;
    // Started once more, by another runner after the first one died, it has arrived already.
    let first = announcements.iter().filter(|one| !is_started(&standing, one));
    let reached: Vec<Reached> = first.map(|one| reached(one, RunState::Running)).collect();
    arrive(conn, &reached, now)?;
    Ok(announcements)
}

fn is_started(standing: &HashMap<i64, Standing>, one: &Announcement) -> bool {
    standing.get(&one.record.run.id.0).is_some_and(Standing::is_started)
}

/// Whether what went wrong may go right the next time.
fn heals(reason: RunReason) -> bool {
    matches!(reason, RunReason::ProviderFailed | RunReason::TimedOut)
}

/// Plans the next attempt of a run that failed, unless it has ended meanwhile.
fn try_again(
    conn: &mut DbConnection,
    answer: &RunAnswer,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    let at = now + config.retry_delay(answer.run_attempt);
    if runs::try_again(conn, answer, at)? {
        let reason = answer.result.reason.map_or("", RunReason::as_str);
        metrics::counter!("carillon_run_attempts_failed_total", "reason" => reason).increment(1);
        tracing::info!(
            run.id = %answer.run_id, run.attempt = answer.run_attempt, reason,
            trace_id = Place::tick(answer.run_id).trace_id(), "a run failed, trying it again"
        );
    }
    Ok(())
}

/// Ends these runs for this reason, unless they have ended already. Returns which, for the runners to stop, and what is
/// to be announced of them.
pub(crate) fn end_now(
    conn: &mut DbConnection,
    ids: &[i64],
    reason: RunReason,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Announcement>), DispatchError> {
    if ids.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // Schedules before runs, as whoever takes answers locks them.
    let agent_ids: Vec<i64> = runs::standing(conn, ids)?.values().map(|one| one.agent_id).collect();
    schedules::lock_concerned(conn, &agent_ids)?;
    runs::lock(conn, ids)?;
    let not_ended = runs::not_ended(conn, ids)?;
    let in_flight = not_ended.iter().filter(|row| Stage::IN_FLIGHT.contains(&row.stage));
    let in_flight: Vec<i64> = in_flight.map(|row| row.run.id.0).collect();
    let_go::note(conn, &in_flight, now)?;
    let verdicts: Vec<_> = not_ended.iter().map(|row| verdict(row, reason, now)).collect();
    let ended = take_answers(conn, &verdicts, config, now)?;
    Ok((verdicts.iter().map(|(answer, _)| answer.run_id).collect(), ended))
}

/// Ends these runs, found overdue a while ago, as far as still nothing was heard of them. Returns as [`end_now`] does.
pub(crate) fn end_overdue(
    conn: &mut DbConnection,
    late: &[RunRow],
    reason: RunReason,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Announcement>), DispatchError> {
    let (ids, agent_ids): (Vec<i64>, Vec<i64>) = late.iter().map(|row| (row.run.id.0, row.run.agent_id.0)).unzip();
    schedules::lock_concerned(conn, &agent_ids)?;
    runs::lock(conn, &ids)?;
    // What has started, or was taken back, by now stays so.
    let late = overdue::still(conn, late, now)?;
    let verdicts: Vec<_> = late.iter().map(|row| verdict(row, reason, now)).collect();
    let ended = take_answers(conn, &verdicts, config, now)?;
    Ok((verdicts.iter().map(|(answer, _)| answer.run_id).collect(), ended))
}

fn reached(one: &Announcement, status: RunState) -> Reached {
    Reached { agent_id: one.record.run.agent_id, run_id: one.record.run.id, status }
}

/// The dispatcher's own verdict on a run that nobody answered.
pub(crate) fn verdict(row: &RunRow, reason: RunReason, now: DateTime<Utc>) -> (RunAnswer, Bytes) {
    let said = match reason {
        RunReason::Lost => format!("requested {} times and never answered", row.sends),
        RunReason::Cancelled => "it was cancelled".to_owned(),
        RunReason::CreatorNotAllowed => "the user that it acts as may not any more".to_owned(),
        _ => "no answer within the run's time-out".to_owned(),
    };
    let stamp = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let answer = RunAnswer {
        run_id: RunId(row.run.id.0),
        run_attempt: row.run.run_attempt,
        started_at: row.started_at.unwrap_or(row.requested_at),
        ended_at: now,
        result: RunResult {
            reason: Some(reason),
            log: format!("{stamp} the dispatcher ended this run: {said}\n"),
            ..RunResult::default()
        },
    };
    let bytes = answer.encode();
    (answer, bytes)
}
