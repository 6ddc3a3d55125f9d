//! The body of a callback and its id: made once, when the delivery is made, and never changed.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use model::id::RunId;
use model::run::RunRecord;
use serde::Serialize;
use uuid::Uuid;

/// The most bytes of a log that a callback carries.
pub const LOG_BYTES_MAX: usize = 256 * 1024;

/// The event of a callback about a run that ended.
pub const RUN_FINISHED: &str = "run.finished";

/// The keys in their order: the first six are the original document's, what follows is additive.
#[derive(Serialize)]
struct Payload<'a> {
    timestamp: String,
    status: &'a str,
    prompt: &'a str,
    agent_output: &'a str,
    log: Cow<'a, str>,
    log_id: i64,
    event: &'a str,
    sequence: i64,
    periodic_agent: i64,
    nominal_time: String,
    reason: Option<&'a str>,
    undelivered: i64,
}

/// A run that has no result to tell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {0} has not ended, there is nothing to deliver: only ended runs belong into `runs.finished`")]
pub struct NotEnded(pub RunId);

/// The body that tells of an ended run.
///
/// `undelivered` is how many of the agent's deliveries did not reach their receiver so far.
///
/// # Errors
///
/// The run has not ended.
pub fn body(record: &RunRecord, undelivered: i64) -> Result<String, NotEnded> {
    let not_ended = || NotEnded(record.run.id);
    let (ended_at, result) = record.ended_at.zip(record.result.as_ref()).ok_or_else(not_ended)?;
    let payload = Payload {
        timestamp: timestamp(ended_at),
        status: result.state().as_str(),
        prompt: &record.prompt,
        agent_output: &result.output,
        log: cut(&result.log),
        log_id: record.run.id.0,
        event: RUN_FINISHED,
        sequence: record.run.sequence,
        periodic_agent: record.run.agent_id.0,
        nominal_time: timestamp(record.run.nominal_time),
        reason: result.reason.map(model::run::RunReason::as_str),
        undelivered,
    };
    serde_json::to_string(&payload).map_err(|_| not_ended())
}

/// Names the callback about a run for ever: the same installation and run give the same id.
#[must_use]
pub fn webhook_id(installation: Uuid, run: RunId) -> Uuid {
    Uuid::new_v5(&installation, format!("log:{run}").as_bytes())
}

/// RFC 3339 in UTC with milliseconds and `Z`.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The log, or as much of its beginning as a callback carries and how much is missing.
fn cut(log: &str) -> Cow<'_, str> {
    if log.len() <= LOG_BYTES_MAX {
        return Cow::Borrowed(log);
    }
    let kept = &log[..log.floor_char_boundary(LOG_BYTES_MAX)];
    Cow::Owned(format!("{kept}\n[{} more bytes were cut]", log.len() - kept.len()))
}

#[cfg(test)]
mod tests {
    use model::id::{AgentId, OrganisationKey};
    use model::run::{Run, RunReason, RunResult, RunState, Trigger};
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn record(result: RunResult) -> RunRecord {
        RunRecord {
            run: Run {
                id: RunId(17_000_000_000_001),
                organisation: OrganisationKey("acme".into()),
                agent_id: AgentId(7),
                trigger: Trigger::Schedule,
                fire_time: time("2026-01-01T00:00:00Z"),
                nominal_time: time("2026-01-01T00:00:00Z"),
                sequence: 3,
                run_attempt: 1,
                passed_over: 0,
            },
            state: result.state(),
            prompt: "Good \"morning\"".into(),
            requested_at: time("2026-01-01T00:00:00Z"),
            started_at: None,
            ended_at: Some(time("2026-01-01T00:00:01.234567Z")),
            result: Some(result),
            next_fire_time: None,
            finished_timing_version: None,
            agent_version: None,
        }
    }

    #[test]
    fn the_six_keys_of_the_document_come_first_and_in_its_order() {
        let result = RunResult { output: "Hi".into(), log: "asked\nanswered".into(), ..RunResult::default() };
        assert_eq!(
            body(&record(result), 2).unwrap(),
            concat!(
                r#"{"timestamp":"2026-01-01T00:00:01.234Z","status":"success","prompt":"Good \"morning\"","#,
                r#""agent_output":"Hi","log":"asked\nanswered","log_id":17000000000001,"event":"run.finished","#,
                r#""sequence":3,"periodic_agent":7,"nominal_time":"2026-01-01T00:00:00.000Z","reason":null,"#,
                r#""undelivered":2}"#,
            )
        );
    }

    #[test]
    fn a_failed_run_says_why() {
        let result = RunResult { reason: Some(RunReason::TimedOut), ..RunResult::default() };
        let body = body(&record(result), 0).unwrap();
        assert!(body.contains(r#""status":"error""#) && body.contains(r#""reason":"timed_out""#), "{body}");
    }

    #[test]
    fn a_run_without_a_result_has_no_body() {
        let mut unfinished = record(RunResult::default());
        unfinished.state = RunState::Running;
        unfinished.result = None;
        assert_eq!(body(&unfinished, 0), Err(NotEnded(unfinished.run.id)));
    }

    #[test]
    fn the_webhook_id_depends_on_installation_and_run_alone() {
        let installation = Uuid::from_u128(1);
        assert_eq!(webhook_id(installation, RunId(1)), webhook_id(installation, RunId(1)));
        assert_ne!(webhook_id(installation, RunId(1)), webhook_id(installation, RunId(2)));
        assert_ne!(webhook_id(installation, RunId(1)), webhook_id(Uuid::from_u128(2), RunId(1)));
    }

    #[test]
    fn a_log_that_just_fits_is_whole() {
        let log = "x".repeat(LOG_BYTES_MAX);
        assert_eq!(cut(&log), log);
    }

    proptest! {
        #[test]
        fn a_cut_log_is_a_beginning_and_the_number_of_missing_bytes(shift in 0..4_usize, extra in 1..5_000_usize) {
            let log = format!("{}{}", "a".repeat(shift), "🦀".repeat((LOG_BYTES_MAX + extra).div_ceil(4)));
            let cut = cut(&log);
            let (kept, marker) = cut.rsplit_once('\n').unwrap();
            prop_assert!(log.starts_with(kept) && kept.len() <= LOG_BYTES_MAX && kept.len() > LOG_BYTES_MAX - 4);
            prop_assert_eq!(marker, format!("[{} more bytes were cut]", log.len() - kept.len()));
        }
    }
}
