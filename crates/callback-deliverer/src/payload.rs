//! The body of a callback: made once, when the delivery is made, and never changed.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, SecondsFormat, Utc};
use model::id::{AgentId, RunId};
use model::run::{RunRecord, SkippedTick};
use serde::Serialize;

use crate::log_link::LogLinks;

/// The most bytes of a log that a callback carries.
pub const LOG_BYTES_MAX: usize = 256 * 1024;

/// The event of a callback about a run that ended.
pub const RUN_FINISHED: &str = "run.finished";
/// The event of a callback about a tick, or a span of them, without a run.
pub const TICK_SKIPPED: &str = "tick.skipped";
/// The event of a callback that somebody asked for to see whether it arrives.
pub const PING: &str = "ping";

/// The keys in their order: the first six are the original document's, what follows is additive.
#[derive(Serialize)]
struct Payload<'a> {
    timestamp: String,
    status: &'a str,
    prompt: &'a str,
    agent_output: &'a str,
    log: Cow<'a, str>,
    log_id: Option<i64>,
    event: &'a str,
    sequence: Option<i64>,
    periodic_agent: i64,
    nominal_time: Option<String>,
    reason: Option<&'a str>,
    undelivered: i64,
    /// Of a log that was cut.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    whole_log: Option<WholeLog>,
    /// Of a skipped tick.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    span: Option<Span>,
}

/// Where a log is whole, and how to know it.
#[derive(Serialize)]
struct WholeLog {
    log_url: Option<String>,
    log_bytes: usize,
    log_sha256: String,
}

/// The ticks that a callback about skipped ones speaks of.
#[derive(Serialize)]
struct Span {
    fire_time: String,
    until: String,
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
pub fn of_run(record: &RunRecord, undelivered: i64, links: &LogLinks) -> Result<String, NotEnded> {
    let not_ended = || NotEnded(record.run.id);
    let (ended_at, result) = record.ended_at.zip(record.result.as_ref()).ok_or_else(not_ended)?;
    let (log, whole_log) = match cut(&result.log) {
        None => (Cow::Borrowed(result.log.as_str()), None),
        Some(cut) => {
            let whole = WholeLog {
                log_url: links.of_log(record.run.organisation.as_str(), record.run.id),
                log_bytes: result.log.len(),
                log_sha256: hex::encode(digest(&SHA256, result.log.as_bytes())),
            };
            (Cow::Owned(cut), Some(whole))
        }
    };
    let payload = Payload {
        timestamp: timestamp(ended_at),
        status: result.state().as_str(),
        prompt: &record.prompt,
        agent_output: &result.output,
        log,
        log_id: Some(record.run.id.0),
        event: RUN_FINISHED,
        sequence: Some(record.run.sequence),
        periodic_agent: record.run.agent_id.0,
        nominal_time: Some(timestamp(record.run.nominal_time)),
        reason: result.reason.map(model::run::RunReason::as_str),
        undelivered,
        whole_log,
        span: None,
    };
    serde_json::to_string(&payload).map_err(|_| not_ended())
}

/// The body that tells of a skipped tick, or of a span of them.
#[must_use]
pub fn of_tick(tick: &SkippedTick, undelivered: i64, now: DateTime<Utc>) -> String {
    let span = Span { fire_time: timestamp(tick.fire_time), until: timestamp(tick.until) };
    let payload = Payload {
        nominal_time: Some(timestamp(tick.nominal_time)),
        reason: Some(tick.reason.as_str()),
        undelivered,
        span: Some(span),
        ..empty(now, "skipped", TICK_SKIPPED, tick.agent_id)
    };
    text(&payload)
}

/// The body of a callback that only wants to arrive.
#[must_use]
pub fn of_ping(agent_id: AgentId, undelivered: i64, now: DateTime<Utc>) -> String {
    text(&Payload { undelivered, ..empty(now, "success", PING, agent_id) })
}

fn empty<'a>(now: DateTime<Utc>, status: &'a str, event: &'a str, agent_id: AgentId) -> Payload<'a> {
    Payload {
        timestamp: timestamp(now),
        status,
        prompt: "",
        agent_output: "",
        log: Cow::Borrowed(""),
        log_id: None,
        event,
        sequence: None,
        periodic_agent: agent_id.0,
        nominal_time: None,
        reason: None,
        undelivered: 0,
        whole_log: None,
        span: None,
    }
}

/// Plain structs of text and numbers always serialise.
pub(crate) fn text(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds and `Z`.
pub(crate) fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// As much of a log's beginning as a callback carries and how much is missing; none: it fits whole.
fn cut(log: &str) -> Option<String> {
    if log.len() <= LOG_BYTES_MAX {
        return None;
    }
    let kept = &log[..log.floor_char_boundary(LOG_BYTES_MAX)];
    Some(format!("{kept}\n[{} more bytes were cut]", log.len() - kept.len()))
}

#[cfg(test)]
mod tests {
    use model::id::{AgentId, OrganisationKey};
    use model::run::{Run, RunReason, RunResult, RunState, SkipReason, Trigger};
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
            of_run(&record(result), 2, &LogLinks::none()).unwrap(),
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
        let body = of_run(&record(result), 0, &LogLinks::none()).unwrap();
        assert!(body.contains(r#""status":"error""#) && body.contains(r#""reason":"timed_out""#), "{body}");
    }

    #[test]
    fn a_run_without_a_result_has_no_body() {
        let mut unfinished = record(RunResult::default());
        unfinished.state = RunState::Running;
        unfinished.result = None;
        assert_eq!(of_run(&unfinished, 0, &LogLinks::none()), Err(NotEnded(unfinished.run.id)));
    }

    #[test]
    fn a_long_log_is_told_whole_by_its_length_and_digest() {
        let log = "é".repeat(LOG_BYTES_MAX);
        let body = of_run(&record(RunResult { log, ..RunResult::default() }), 0, &LogLinks::none()).unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["log_url"], &body["log_bytes"]), (&serde_json::Value::Null, &(2 * LOG_BYTES_MAX).into()));
        assert_eq!(body["log_sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn a_skipped_tick_and_a_ping_have_the_same_keys_and_no_log() {
        let tick = SkippedTick {
            organisation: OrganisationKey("acme".into()),
            agent_id: AgentId(7),
            fire_time: time("2026-01-01T00:00:00Z"),
            nominal_time: time("2026-01-01T00:00:00Z"),
            until: time("2026-01-01T03:00:00Z"),
            reason: SkipReason::Paused,
            agent_version: None,
        };
        assert_eq!(
            of_tick(&tick, 1, time("2026-01-01T03:00:01Z")),
            concat!(
                r#"{"timestamp":"2026-01-01T03:00:01.000Z","status":"skipped","prompt":"","agent_output":"","log":"","#,
                r#""log_id":null,"event":"tick.skipped","sequence":null,"periodic_agent":7,"#,
                r#""nominal_time":"2026-01-01T00:00:00.000Z","reason":"paused","undelivered":1,"#,
                r#""fire_time":"2026-01-01T00:00:00.000Z","until":"2026-01-01T03:00:00.000Z"}"#,
            )
        );
        let ping: serde_json::Value =
            serde_json::from_str(&of_ping(AgentId(7), 3, time("2026-01-01T00:00:00Z"))).unwrap();
        assert_eq!((&ping["event"], &ping["log_id"], &ping["undelivered"]), (&"ping".into(), &().into(), &3.into()));
    }

    #[test]
    fn a_log_that_just_fits_is_whole() {
        let log = "x".repeat(LOG_BYTES_MAX);
        assert_eq!(cut(&log), None);
    }

    proptest! {
        #[test]
        fn a_cut_log_is_a_beginning_and_the_number_of_missing_bytes(shift in 0..4_usize, extra in 1..5_000_usize) {
            let log = format!("{}{}", "a".repeat(shift), "🦀".repeat((LOG_BYTES_MAX + extra).div_ceil(4)));
            let cut = cut(&log).unwrap();
            let (kept, marker) = cut.rsplit_once('\n').unwrap();
            prop_assert!(log.starts_with(kept) && kept.len() <= LOG_BYTES_MAX && kept.len() > LOG_BYTES_MAX - 4);
            prop_assert_eq!(marker, format!("[{} more bytes were cut]", log.len() - kept.len()));
        }
    }
}
