//! The one judge of every run: takes its first answer, whoever gives it, and no other.
//!
//! An answer's bytes are kept as they came. A later answer, or one to another run attempt, changes nothing; so a run
//! that was asked twice still has one result, one log and one callback.
//!
//! What a transaction judged is announced after it, piece by piece: prompts and answers have megabytes each. A crash in
//! between: the watch announces what ended when it is overdue, and a start that was not acknowledged comes again.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use model::event::RunStarted;
use model::id::RunId;
use model::run::{Run, RunAnswer, RunReason, RunRequest, RunResult, RunState};
use model::wire::Wire;
use service_kit::database::DbConnection;
use service_kit::traces::Place;

use crate::chain::{Reached, arrive};
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::outcome::Ended;
use crate::pieces::pieces;
use crate::store::runs::{self, RunRow, Standing};
use crate::store::stage::Stage;
use crate::store::{answers, let_go, overdue, queue, schedules};

/// What answers came to.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The runs that ended by them, to be announced.
    pub(crate) ended: Vec<Ended>,
    /// Runs whose request was sent more than once, for the runners to stop: a copy may still wait to be taken, and is not
    /// to be begun.
    pub(crate) sent_again: Vec<RunId>,
}

/// Takes first answers.
pub(crate) fn take_answers(
    conn: &mut DbConnection,
    given: &[(RunAnswer, Bytes)],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Judged, DispatchError> {
    let check_at = now + config.overdue(1);
    let ids: Vec<i64> = given.iter().map(|(answer, _)| answer.run_id.0).collect();
    let standing = runs::standing(conn, &ids)?;
    let agent_ids = agents(&standing);
    // Before any run ends: who finds one under way and makes its tick wait for it, has done so by then.
    let queueing = schedules::lock_concerned(conn, &agent_ids)?;
    let may_heal = |answer: &RunAnswer| {
        let again = standing.get(&answer.run_id.0).is_some_and(|one| one.may_try_again(answer.run_attempt));
        again && answer.result.reason.is_some_and(heals)
    };
    let locked = runs::lock_and_look(conn, &ids)?;
    let (failed, last): (Vec<_>, Vec<_>) = given.iter().partition(|(answer, _)| may_heal(answer));
    let mut over = Vec::new();
    for (answer, _) in failed {
        // The next attempt is requested later than runners take for what they were told to stop.
        if try_again(conn, answer, config, now)? {
            over.push(answer.run_id);
        }
    }
    let taken = answers::take(conn, &last, check_at)?;
    schedules::end_overlap(conn, &queueing)?;
    let (mut reached, mut ended) = (Vec::with_capacity(2 * taken.len()), Vec::with_capacity(taken.len()));
    for (answer, bytes) in taken {
        let Some(stood) = standing.get(&answer.run_id.0) else { continue };
        let (run, state) = (&stood.row.run, answer.result.state());
        // An answer implies the start.
        if locked.get(&run.id.0).is_some_and(|one| !one.is_started) {
            reached.push(Reached { agent_id: run.agent_id, run_id: run.id, status: RunState::Running });
        }
        reached.push(Reached { agent_id: run.agent_id, run_id: run.id, status: state });
        ended.push(Ended {
            run: Run { run_attempt: answer.run_attempt, ..run.clone() },
            state,
            reason: answer.result.reason,
            ended_at: answer.ended_at,
            bytes: stood.request_bytes + bytes.len(),
        });
    }
    arrive(conn, &reached, now)?;
    over.extend(ended.iter().map(|one| one.run.id));
    over.retain(|id| locked.get(&id.0).is_some_and(|one| one.sent_again));
    if !over.is_empty() {
        // A runner that has the key for a copy that was put off may only join later.
        let ids: Vec<i64> = over.iter().map(|id| id.0).collect();
        let_go::note(conn, &ids, now)?;
    }
    Ok(Judged { ended, sent_again: over })
}

/// Notes runs that have begun. Returns them, in pieces to be announced.
pub(crate) fn take_starts(
    conn: &mut DbConnection,
    starts: &[RunStarted],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Vec<Vec<i64>>, DispatchError> {
    let ids: Vec<i64> = starts.iter().map(|start| start.run_id.0).collect();
    let standing = runs::standing(conn, &ids)?;
    let timeouts = timeouts(conn, &standing)?;
    schedules::lock_concerned(conn, &agents(&standing))?;
    let (mut reached, mut begun) = (Vec::with_capacity(starts.len()), Vec::with_capacity(starts.len()));
    for start in starts {
        let id = start.run_id.0;
        let (Some(stood), Some(timeout)) = (standing.get(&id), timeouts.get(&id)) else { continue };
        // By whichever clock is later: a runner's may be behind.
        let verdict_at = start.started_at.max(now) + *timeout + config.verdict_grace();
        if !runs::start(conn, start.run_id, start.run_attempt, start.started_at, verdict_at)? {
            continue;
        }
        begun.push((id, stood.request_bytes));
        // Started once more, by another runner after the first one died, it has arrived already.
        if !stood.is_started() {
            reached.push(Reached { agent_id: stood.row.run.agent_id, run_id: start.run_id, status: RunState::Running });
        }
    }
    arrive(conn, &reached, now)?;
    Ok(pieces(begun))
}

fn agents(standing: &HashMap<i64, Standing>) -> Vec<i64> {
    standing.values().map(|one| one.row.run.agent_id.0).collect()
}

/// How long these runs may take, as far as their requests are kept: these have the prompts as well, and are read piece by
/// piece.
fn timeouts(
    conn: &mut DbConnection,
    standing: &HashMap<i64, Standing>,
) -> Result<HashMap<i64, Duration>, DispatchError> {
    let mut timeouts = HashMap::with_capacity(standing.len());
    for piece in pieces(standing.iter().map(|(id, one)| (*id, one.request_bytes))) {
        for (id, body) in queue::requests(conn, &piece)? {
            timeouts.insert(id, RunRequest::decode(&body)?.timeout);
        }
    }
    Ok(timeouts)
}

/// Whether what went wrong may go right the next time.
fn heals(reason: RunReason) -> bool {
    matches!(reason, RunReason::ProviderFailed | RunReason::TimedOut)
}

/// Plans the next attempt of a run that failed. False: it has ended meanwhile.
fn try_again(
    conn: &mut DbConnection,
    answer: &RunAnswer,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<bool, DispatchError> {
    let at = now + config.retry_delay(answer.run_attempt);
    let is_tried_again = runs::try_again(conn, answer, at)?;
    if is_tried_again {
        let reason = answer.result.reason.map_or("", RunReason::as_str);
        metrics::counter!("carillon_run_attempts_failed_total", "reason" => reason).increment(1);
        tracing::info!(
            run.id = %answer.run_id, run.attempt = answer.run_attempt, reason,
            trace_id = Place::tick(answer.run_id).trace_id(), "a run failed, trying it again"
        );
    }
    Ok(is_tried_again)
}

/// Ends these runs for this reason, unless they have ended already. Returns which, for the runners to stop, and those to
/// be announced.
pub(crate) fn end_now(
    conn: &mut DbConnection,
    ids: &[i64],
    reason: RunReason,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Ended>), DispatchError> {
    if ids.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // Schedules before runs, as whoever takes answers locks them.
    let standing = runs::standing(conn, ids)?;
    schedules::lock_concerned(conn, &agents(&standing))?;
    runs::lock(conn, ids)?;
    let not_ended = runs::not_ended(conn, ids)?;
    let in_flight = not_ended.iter().filter(|row| Stage::IN_FLIGHT.contains(&row.stage));
    let in_flight: Vec<i64> = in_flight.map(|row| row.run.id.0).collect();
    let_go::note(conn, &in_flight, now)?;
    let verdicts: Vec<_> = not_ended.iter().map(|row| verdict(row, reason, now)).collect();
    let Judged { ended, .. } = take_answers(conn, &verdicts, config, now)?;
    Ok((verdicts.iter().map(|(answer, _)| answer.run_id).collect(), ended))
}

/// Ends these runs, found overdue a while ago, as far as still nothing was heard of them. Returns as [`end_now`] does.
pub(crate) fn end_overdue(
    conn: &mut DbConnection,
    late: &[RunRow],
    reason: RunReason,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Ended>), DispatchError> {
    let (ids, agent_ids): (Vec<i64>, Vec<i64>) = late.iter().map(|row| (row.run.id.0, row.run.agent_id.0)).unzip();
    schedules::lock_concerned(conn, &agent_ids)?;
    runs::lock(conn, &ids)?;
    // What has started, or was taken back, by now stays so.
    let late = overdue::still(conn, late, now)?;
    if reason == RunReason::Lost {
        // Its request may only wait for a runner that has its key. Of one that has begun the runner knows the time-out.
        let ids: Vec<i64> = late.iter().map(|row| row.run.id.0).collect();
        let_go::note(conn, &ids, now)?;
    }
    let verdicts: Vec<_> = late.iter().map(|row| verdict(row, reason, now)).collect();
    let Judged { ended, .. } = take_answers(conn, &verdicts, config, now)?;
    Ok((verdicts.iter().map(|(answer, _)| answer.run_id).collect(), ended))
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
