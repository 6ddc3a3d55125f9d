//! Messages of an older and of a newer version are understood: in a rolling upgrade both are on the bus.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::crontab::CrontabFields;
use model::document::{
    Agent, Alert, CallbackOn, CatchUp, DEFAULT_TIMEOUT, Document, DocumentKind, Endpoint, HeldDocument, Mentor,
    Organisation, OverlapPolicy, Pause, Previous, PreviousSecret, Provider, Receiver, Schedule, Subject,
};
use model::event::{
    DocumentChanged, DocumentsHeld, HeldTick, Replanned, RunCancel, RunStarted, RunnerJoined, RunsFinished, RunsHeld,
    RunsRecorded, TicksSkipped,
};
use model::id::{AgentId, MentorId, OrganisationKey, RunId};
use model::run::{
    Run, RunAnswer, RunReason, RunRecord, RunRequest, RunResult, RunState, ScheduleRecord, SkipReason, SkippedTick,
    Trigger, Usage,
};
use model::service::{
    CallFailure, CallableService, CallableServices, CallableServicesRequest, ServiceCall, ServiceField,
    ServiceInvocation, ServicesInvoked,
};
use model::wire::Wire;
use uuid::Uuid;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("RFC 3339")
}

fn run() -> Run {
    Run {
        id: RunId(42),
        organisation: OrganisationKey("acme".into()),
        agent_id: AgentId(7),
        trigger: Trigger::Chain,
        fire_time: at("2026-01-01T10:00:00Z"),
        nominal_time: at("2026-01-01T09:59:00.000001Z"),
        sequence: 3,
        run_attempt: 2,
        passed_over: 4,
    }
}

fn mentor() -> Mentor {
    Mentor {
        id: MentorId(1),
        unique_id: "u".into(),
        name: "Echo".into(),
        system_prompt: "be kind".into(),
        provider: Provider {
            kind: "openai".into(),
            name: "ours".into(),
            base_url: "https://models.example/v1".into(),
            model: "m".into(),
            temperature: Some(0.5),
            max_output_tokens: Some(100),
            sealed_api_key: vec![1, 2],
            headers: [("a".to_owned(), "b".to_owned())].into(),
        },
        runs_in_flight_max: NonZeroU32::new(3),
        service_groups: vec!["g".into()],
    }
}

fn agent() -> Agent {
    Agent {
        id: AgentId(7),
        mentor_id: MentorId(1),
        title: "T".into(),
        prompt: "P".into(),
        username: "u".into(),
        last_editor: "e".into(),
        schedule: Schedule {
            timing_version: 9,
            crontab: CrontabFields::default(),
            timezone: Some(chrono_tz::Europe::Berlin),
            enabled: true,
            one_off: true,
            start_time: Some(at("2026-01-01T00:00:00Z")),
            timeout: Duration::from_secs(30),
            end_time: Some(at("2027-01-01T00:00:00Z")),
            jitter: Duration::from_secs(90),
            overlap: OverlapPolicy::QueueOne,
            catch_up: CatchUp::All,
            catch_up_window: Duration::from_secs(60),
            max_attempts: NonZeroU32::new(5).expect("not zero"),
        },
        endpoint: Some(Endpoint {
            url: "https://r.example/".into(),
            sealed_secret: vec![3],
            previous_secret: Some(PreviousSecret { sealed: vec![4], until: at("2026-01-02T00:00:00Z") }),
            encrypt: true,
            signature_only_hub: true,
            callback_on: CallbackOn { runs: false, skipped: true },
        }),
        pathway: "p".into(),
        parent_session_id: "s".into(),
        parent_mentor_id: Some(-1),
        previous: Some(Previous { agent_id: AgentId(6), status: RunState::Error }),
        pause: Pause { paused: true, resumed_with: Some(CatchUp::None) },
        runs_in_flight_max: NonZeroU32::new(1),
    }
}

fn schedule() -> ScheduleRecord {
    let next_fire_time = Some(at("2026-01-01T11:00:00Z"));
    ScheduleRecord { agent_id: AgentId(1), next_fire_time, finished_timing_version: Some(7) }
}

fn record() -> RunRecord {
    RunRecord {
        run: run(),
        state: RunState::Error,
        prompt: "P".into(),
        requested_at: at("2026-01-01T10:00:00Z"),
        started_at: Some(at("2026-01-01T10:00:01Z")),
        ended_at: Some(at("2026-01-01T10:00:02Z")),
        result: Some(RunResult {
            reason: Some(RunReason::ProviderFailed),
            output: String::new(),
            log: "l".into(),
            usage: Usage { prompt_tokens: 1, completion_tokens: 2 },
            session_id: "s".into(),
        }),
        next_fire_time: Some(at("2026-01-01T11:00:00Z")),
        finished_timing_version: Some(9),
        agent_version: Some(8),
    }
}

/// A field that no version of ours has yet: number 1000, a text.
const UNKNOWN_FIELD: [u8; 6] = [0xC2, 0x3E, 3, b'n', b'e', b'w'];

fn assert_newer_is_understood<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
    let mut bytes = value.encode().to_vec();
    assert_eq!(&T::decode(&bytes).expect("our own"), value);
    bytes.extend(UNKNOWN_FIELD);
    assert_eq!(&T::decode(&bytes).expect("a newer one"), value);
}

#[test]
fn an_organisation_is_read_back_whole_and_one_of_an_older_version_has_only_its_zone() {
    let some = NonZeroU32::new(5);
    let organisation = Organisation {
        timezone: chrono_tz::Europe::Berlin,
        pause: Pause { paused: true, resumed_with: None },
        default_provider: "ours".into(),
        runs_in_flight_max: some,
        callbacks_in_flight_max: some,
        alert: Some(Alert { url: "https://r.example/".into(), sealed_secret: vec![5] }),
        ticks_days: some,
        deliveries_days: some,
        revoked_users: ["eve".to_owned()].into(),
    };
    assert_newer_is_understood(&organisation);
    let older = Organisation::decode(b"\x0a\x03UTC").expect("an older one");
    assert_eq!(older, Organisation::default());
}

#[test]
fn every_message_is_read_back_and_a_field_of_a_newer_version_is_passed_over() {
    let document = |subject| Document { organisation: OrganisationKey("acme".into()), version: 5, subject };
    let documents = vec![
        document(Subject::Mentor(mentor())),
        document(Subject::Agent(Box::new(agent()))),
        document(Subject::AgentDeleted(AgentId(7))),
        document(Subject::MentorDeleted(MentorId(1))),
    ];
    assert_newer_is_understood(&DocumentChanged { documents });
    let held =
        HeldDocument { kind: DocumentKind::Agent, key: "7".into(), version: 5, next_fire_time: Some(run().fire_time) };
    assert_newer_is_understood(&DocumentsHeld {
        receiver: Receiver::CronDispatcher,
        documents: vec![held],
        replanned: vec![Replanned { organisation: run().organisation, tzdb: "2026a".into() }],
    });
    assert_newer_is_understood(&RunRequest {
        run: run(),
        mentor: mentor(),
        prompt: "P".into(),
        username: "u".into(),
        last_editor: "e".into(),
        pathway: "p".into(),
        parent_session_id: "s".into(),
        parent_mentor_id: Some(1),
        timeout: Duration::from_secs(30),
        announce_start: true,
    });
    assert_newer_is_understood(&RunStarted { run_id: RunId(42), run_attempt: 1, started_at: run().fire_time });
    let result = record().result.expect("a result");
    let (started_at, ended_at) = (run().fire_time, run().fire_time);
    assert_newer_is_understood(&RunAnswer { run_id: RunId(42), run_attempt: 1, started_at, ended_at, result });
    assert_newer_is_understood(&RunCancel { run_ids: vec![RunId(42)], complete: true });
    assert_newer_is_understood(&RunnerJoined);
    assert_newer_is_understood(&RunsRecorded { runs: vec![record()], schedules: vec![schedule()] });
    assert_newer_is_understood(&RunsFinished { runs: vec![record()] });
    let tick = HeldTick { agent_id: AgentId(7), fire_time: run().fire_time };
    assert_newer_is_understood(&RunsHeld {
        receiver: Receiver::CallbackDeliverer,
        run_ids: vec![RunId(42)],
        ticks: vec![tick],
    });
    let ticks = vec![SkippedTick {
        organisation: run().organisation,
        agent_id: AgentId(7),
        fire_time: run().fire_time,
        nominal_time: run().nominal_time,
        until: at("2026-01-01T11:00:00Z"),
        reason: SkipReason::Paused,
        agent_version: Some(8),
    }];
    assert_newer_is_understood(&TicksSkipped { ticks });
    assert_newer_is_understood(&invoked());
    assert_newer_is_understood(&CallableServicesRequest {
        session_token: "t".into(),
        groups: vec![Uuid::from_u128(1)],
    });
    let field = ServiceField {
        name: "symbol".into(),
        required: true,
        field_type: "string".into(),
        description: "As AAPL.".into(),
    };
    let service = CallableService {
        id: Uuid::from_u128(2),
        name: "Stocks".into(),
        description: "Prices.".into(),
        fields: vec![field],
        endpoint: "https://s.example/".into(),
    };
    assert_newer_is_understood(&CallableServices { services: vec![service] });
}

fn invoked() -> ServicesInvoked {
    let calls = [None, Some(CallFailure::TimedOut)].map(|failure| ServiceCall { failure, duration_ms: 7 }).to_vec();
    ServicesInvoked {
        run_id: RunId(42),
        run_attempt: 2,
        organisation: OrganisationKey("acme".into()),
        at: run().fire_time,
        services: vec![
            ServiceInvocation { service: Uuid::from_u128(2), calls },
            ServiceInvocation { service: Uuid::from_u128(3), calls: Vec::new() },
        ],
    }
}

#[test]
fn a_failed_call_stays_failed_whatever_a_newer_version_calls_its_failure() {
    let read = with_new_word(&invoked(), "timed_out");
    let failures: Vec<_> = read.services[0].calls.iter().map(|call| call.failure).collect();
    assert_eq!(failures, [None, Some(CallFailure::Unknown)]);
}

/// `run.answered` as a first version might have sent it: run id, start, end, status and output, nothing else.
#[test]
fn an_answer_of_an_older_version_has_defaults_for_what_it_does_not_say() {
    let stamp = [0x08, 0x80, 0xF4, 0xD7, 0xCA, 0x06]; // seconds: 1767242240
    let mut bytes = vec![0x08, 42, 0x10, 1];
    for field in [0x1A, 0x22] {
        bytes.extend([field, 6]);
        bytes.extend(stamp);
    }
    let status_and_output = [&[0x0A, 7][..], b"success", &[0x1A, 2], b"hi"].concat();
    bytes.extend([0x2A, u8::try_from(status_and_output.len()).expect("short")]);
    bytes.extend(status_and_output);

    let answer = RunAnswer::decode(&bytes).expect("an older one");
    assert_eq!((answer.run_id, answer.run_attempt), (RunId(42), 1));
    assert_eq!(answer.result, RunResult { output: "hi".into(), ..RunResult::default() });
}

#[test]
fn an_agent_of_an_older_version_has_no_endpoint_no_previous_and_the_default_time_out() {
    let schedule = [0x08, 9, 0x12, 0, 0x20, 1]; // timing version, an empty crontab, enabled
    let mut bytes = vec![0x08, 7, 0x10, 1, 0x3A, u8::try_from(schedule.len()).expect("short")];
    bytes.extend(schedule);
    let agent = Agent::decode(&bytes).expect("an older one");
    assert_eq!((agent.endpoint, agent.previous, agent.schedule.timeout), (None, None, DEFAULT_TIMEOUT));
    assert!(agent.schedule.enabled && agent.schedule.timezone.is_none());
}

#[test]
fn what_a_message_cannot_do_without_is_missed_by_name() {
    let error = RunAnswer::decode(&[0x08, 42]).expect_err("no start");
    assert_eq!(error.to_string(), "field `started_at` is missing");
    assert!(Document::decode(b"\xff\xff\xff").expect_err("no protobuf").to_string().contains("Document"));
}

/// The same bytes with a word that no version of ours has yet in the place of one that it has.
fn with_new_word<T: Wire>(value: &T, word: &str) -> T {
    let (mut bytes, word) = (value.encode().to_vec(), word.as_bytes());
    let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(word)).collect();
    assert!(!places.is_empty(), "the word is in the message");
    places.into_iter().for_each(|place| bytes[place..place + word.len()].fill(b'z'));
    T::decode(&bytes).expect("a newer one")
}

#[test]
fn a_word_of_a_newer_version_is_read_as_what_comes_nearest() {
    let agent = agent();
    assert_eq!(with_new_word(&agent, "queue_one").schedule.overlap, OverlapPolicy::Allow);
    assert_eq!(with_new_word(&agent, "all").schedule.catch_up, CatchUp::Latest);
    assert_eq!(with_new_word(&agent, "none").pause, Pause { paused: true, resumed_with: Some(CatchUp::Latest) });
    assert_eq!(with_new_word(&agent, "error").previous.expect("one").status, RunState::Success);
    assert_eq!(with_new_word(&run(), "chain").trigger, Trigger::Schedule);
    let mut record = record();
    let result = with_new_word(&record, "provider_failed").result.expect("a result");
    assert_eq!((result.reason, result.log.as_str()), (Some(RunReason::Unknown), "l"));
    // State and status: what is known of the run tells how far it is.
    assert_eq!(with_new_word(&record, "error"), record);
    record.result = None;
    assert_eq!(with_new_word(&record, "error").state, RunState::Running);
    record.started_at = None;
    assert_eq!(with_new_word(&record, "error").state, RunState::Pending);
}

#[test]
fn a_document_of_a_new_kind_is_passed_over_and_takes_no_neighbour_with_it() {
    let mentor =
        Document { organisation: OrganisationKey("acme".into()), version: 5, subject: Subject::Mentor(mentor()) };
    let one = DocumentChanged { documents: vec![mentor] };
    // A document with an organisation, a version, and the unknown field where its subject would be.
    let mut bytes = vec![0x0A, 10, 0x0A, 0, 0x10, 5];
    bytes.extend(UNKNOWN_FIELD);
    bytes.extend(one.encode());
    assert_eq!(DocumentChanged::decode(&bytes).expect("a newer one"), one);

    let held = |kind| HeldDocument { kind, key: "7".into(), version: 5, next_fire_time: None };
    let both = DocumentsHeld {
        receiver: Receiver::CronDispatcher,
        documents: vec![held(DocumentKind::Mentor), held(DocumentKind::Agent)],
        replanned: Vec::new(),
    };
    assert_eq!(with_new_word(&both, "mentor").documents, [held(DocumentKind::Agent)]);
    assert_eq!(with_new_word(&both, "cron-dispatcher").documents, []);
    let runs = RunsHeld { receiver: Receiver::CallbackDeliverer, run_ids: vec![RunId(42)], ticks: Vec::new() };
    assert_eq!(with_new_word(&runs, "callback-deliverer").run_ids, []);
}
