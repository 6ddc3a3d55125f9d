//! What the registry and the dispatcher would announce: organisations, mentors, agents, and runs that ended.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use model::crontab::CrontabFields;
use model::document::{
    Agent, Document, Endpoint, Mentor, Organisation, Pause, Provider, Schedule, Subject, next_version,
};
use model::event::DocumentChanged;
use model::id::{AgentId, MentorId, OrganisationKey, RunId};
use model::run::{Run, RunRecord, RunResult, Trigger};

/// Documents in one message, as the registry announces them.
const PIECE: usize = 100;
/// Characters of a prompt, so that a request is about 1 KiB.
const PROMPT_CHARS: usize = 700;
/// Characters of an output, so that a callback is about 1 KiB.
const OUTPUT_CHARS: usize = 550;

/// An organisation, by its number.
pub(crate) fn organisation_key(number: i64) -> OrganisationKey {
    OrganisationKey(format!("org-{number}"))
}

/// The organisation with this number, and its mentor of the same number.
pub(crate) fn organisation(number: i64, now: DateTime<Utc>) -> [Document; 2] {
    let mentor = Mentor {
        id: MentorId(number),
        unique_id: format!("00000000-0000-4000-8000-{number:012}"),
        name: "Echo".to_owned(),
        system_prompt: String::new(),
        provider: Provider { kind: "echo".to_owned(), ..Provider::default() },
        runs_in_flight_max: None,
        service_groups: Vec::new(),
    };
    let subjects = [Subject::Organisation(Organisation::default()), Subject::Mentor(mentor)];
    subjects.map(|subject| Document { organisation: organisation_key(number), version: next_version(0, now), subject })
}

/// An agent of an organisation, asking its mentor.
pub(crate) fn agent(
    id: i64,
    organisation: i64,
    schedule: Schedule,
    endpoint: Option<Endpoint>,
    now: DateTime<Utc>,
) -> Document {
    let version = next_version(0, now);
    let agent = Agent {
        id: AgentId(id),
        mentor_id: MentorId(organisation),
        title: format!("Agent {id}"),
        prompt: "p".repeat(PROMPT_CHARS),
        username: "admin".to_owned(),
        last_editor: "admin".to_owned(),
        schedule: Schedule { timing_version: version, ..schedule },
        endpoint,
        pathway: String::new(),
        parent_session_id: String::new(),
        parent_mentor_id: None,
        previous: None,
        pause: Pause::default(),
        runs_in_flight_max: None,
    };
    Document { organisation: organisation_key(organisation), version, subject: Subject::Agent(Box::new(agent)) }
}

/// A schedule that is due at these minutes of the hour.
pub(crate) fn at_minutes(minutes: &[DateTime<Utc>]) -> Schedule {
    let minutes: Vec<String> = minutes.iter().map(|minute| minute.format("%-M").to_string()).collect();
    Schedule { crontab: CrontabFields { minute: minutes.join(","), ..CrontabFields::default() }, ..Schedule::default() }
}

/// The messages that announce documents.
pub(crate) fn announcements(documents: Vec<Document>) -> Vec<DocumentChanged> {
    documents.chunks(PIECE).map(|piece| DocumentChanged { documents: piece.to_vec() }).collect()
}

/// A run that just ended well, as `runs.finished` tells it.
pub(crate) fn finished_run(id: i64, agent_id: i64, organisation: i64, now: DateTime<Utc>) -> RunRecord {
    let begun = now - TimeDelta::seconds(1);
    let output = "o".repeat(OUTPUT_CHARS);
    let result = RunResult { output, log: "asked\nanswered".to_owned(), ..RunResult::default() };
    RunRecord {
        run: Run {
            id: RunId(id),
            organisation: organisation_key(organisation),
            agent_id: AgentId(agent_id),
            trigger: Trigger::Schedule,
            fire_time: begun,
            nominal_time: begun,
            sequence: 1,
            run_attempt: 1,
            passed_over: 0,
        },
        state: result.state(),
        prompt: "Good morning".to_owned(),
        requested_at: begun,
        started_at: Some(begun),
        ended_at: Some(now),
        result: Some(result),
        next_fire_time: None,
        finished_timing_version: None,
        agent_version: None,
    }
}

/// The first full minute that is at least so far away.
pub(crate) fn minute_after(now: DateTime<Utc>, at_least: Duration) -> DateTime<Utc> {
    let earliest = now + at_least;
    let into_minute = TimeDelta::milliseconds(earliest.timestamp_millis().rem_euclid(60_000));
    let micros = TimeDelta::microseconds(i64::from(earliest.timestamp_subsec_micros() % 1_000));
    earliest - into_minute - micros + TimeDelta::minutes(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_minute_is_a_full_one_and_far_enough() {
        let now: DateTime<Utc> = "2026-03-01T12:00:50.123456Z".parse().unwrap();
        assert_eq!(minute_after(now, Duration::from_secs(5)).to_rfc3339(), "2026-03-01T12:01:00+00:00");
        assert_eq!(minute_after(now, Duration::from_secs(15)).to_rfc3339(), "2026-03-01T12:02:00+00:00");
    }
}
