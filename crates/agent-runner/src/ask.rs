//! One run, from its request to its answer.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use model::document::Mentor;
use model::event::RunStarted;
use model::id::RunId;
use model::run::{RunAnswer, RunReason, RunRequest, RunResult, Usage};
use model::service::ServicesInvoked;
use service_kit::clock::Clock;
use service_kit::secrets::{KeyRing, OpenError, Secret};
use service_kit::traces::Kind;
use url::Url;
use uuid::Uuid;

use crate::directory::{Directory, Target};
use crate::provider::{Answer, Provider, Question};
use crate::run_log::{RunLog, shown};
use crate::services::lookup::Lookup;
use crate::services::{CallTransport, Services, Tally};
use crate::session::{Session, SessionMinter};
use crate::slots::{Room, Slot};
use crate::trace::Trace;

/// A run that lasts this long is announced as started; of a shorter one the answer says it.
const LASTS: TimeDelta = TimeDelta::milliseconds(250);

/// What a mentor's API key is sealed for, with its mentor as owner.
const API_KEY_FIELD: &str = "api_key";

/// A mentor's API key: none, opened, or why it cannot be opened.
pub(crate) type ApiKey = Result<Option<Secret<String>>, OpenError>;

/// What every run needs to ask its mentor.
pub(crate) struct Asker {
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) sessions: Arc<SessionMinter>,
    pub(crate) directory: Directory,
    pub(crate) lookup: Lookup,
    pub(crate) calls: Arc<CallTransport>,
}

/// What came of a run.
pub(crate) struct Ended {
    pub(crate) answer: RunAnswer,
    /// What it did with services, if it was offered any.
    pub(crate) invoked: Option<ServicesInvoked>,
}

/// Everything with which a mentor is asked.
pub(crate) struct Prepared {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) question: Question,
    pub(crate) session: Session,
    /// The groups whose services the model may call.
    pub(crate) groups: Vec<String>,
}

/// What stands beside a question.
struct Aside<'a> {
    room: Room,
    log: &'a RunLog,
    trace: &'a Trace,
}

/// Why a run has no answer.
struct Failure {
    reason: RunReason,
    text: String,
}

impl Failure {
    fn new(reason: RunReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl Asker {
    /// Opens the API key of a mentor.
    pub(crate) fn open_api_key(&self, mentor: &Mentor) -> ApiKey {
        let sealed = &mentor.provider.sealed_api_key;
        if sealed.is_empty() {
            return Ok(None);
        }
        self.keys.open_text(sealed, &format!("mentor:{}", mentor.id), API_KEY_FIELD).map(Some)
    }

    /// Asks the mentor; whatever happens, this is an answer. `announce` hears of a run that lasts.
    pub(crate) async fn answer(
        &self,
        request: RunRequest,
        api_key: ApiKey,
        slot: &Slot,
        trace: &Trace,
        announce: impl Fn(RunStarted) + Send + Sync,
    ) -> Ended {
        let started_at = self.clock.now();
        let run = request.run.clone();
        let (run_id, run_attempt) = (run.id, run.run_attempt);
        let tally = Arc::new(Tally::default());
        let session_id = Uuid::new_v4();
        let target = self.directory.find(&request.mentor.provider);
        let kind = target.as_ref().map_or("unknown", |target| &target.kind).to_owned();
        let log = RunLog::new(self.clock.clone());
        log.line(requested(&request));

        let announce = || announce(RunStarted { run_id, run_attempt, started_at });
        if request.announce_start {
            announce();
        }
        let (timeout, announced) = (request.timeout, request.announce_start);
        let target = target.map_err(|text| Failure::new(RunReason::ProviderUnknown, text));
        let aside = Aside { room: slot.room(&run.organisation, &log), log: &log, trace };
        let outcome = match self.prepare(request, target, api_key, (session_id, started_at), &aside) {
            Ok(prepared) => {
                let deadline = prepared.question.deadline;
                let timing = Timing { timeout, deadline, lasts: started_at + LASTS, announced };
                self.ask(&kind, prepared, &tally, timing, announce).await
            }
            Err(failure) => Err(failure),
        };

        let ended_at = self.clock.now();
        let took = (ended_at - started_at).to_std().unwrap_or_default();
        let result = result_of(outcome, &log, took, session_id);
        report(run_id, &kind, &result, took);
        let answer = RunAnswer { run_id, run_attempt, started_at, ended_at, result };
        Ended { answer, invoked: tally.take(&run, ended_at) }
    }

    /// Everything before the mentor is asked.
    fn prepare(
        &self,
        request: RunRequest,
        target: Result<Target, Failure>,
        api_key: ApiKey,
        (session_id, started_at): (Uuid, DateTime<Utc>),
        Aside { room, log, trace }: &Aside<'_>,
    ) -> Result<Prepared, Failure> {
        let RunRequest { run, mentor, prompt, username, last_editor, .. } = request;
        if prompt.trim().is_empty() && mentor.system_prompt.trim().is_empty() {
            return Err(Failure::new(RunReason::NothingToAsk, "neither the agent nor its mentor has a prompt"));
        }
        let target = target?;
        if let Some(place) = &target.place {
            log.line(place);
        }
        let api_key = api_key.map_err(|error| {
            let text = format!("the mentor's API key cannot be read, set it again ({error})");
            Failure::new(RunReason::CredentialsUnreadable, text)
        })?;

        let audience = audience_of(&target);
        let timeout = TimeDelta::from_std(request.timeout).unwrap_or(TimeDelta::MAX);
        let deadline = started_at.checked_add_signed(timeout).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let session = Session {
            id: session_id,
            username: username.clone(),
            organisation: run.organisation.0.clone(),
            last_editor,
            run_id: run.id,
            expires_at: deadline,
        };
        let session_token = self.sessions.mint(&session, &audience, started_at).map_err(|error| {
            Failure::new(RunReason::ProviderFailed, format!("the session token cannot be signed ({error})"))
        })?;
        log.line(format_args!("session {session_id} minted: user `{username}`, audience `{audience}`"));

        let question = Question {
            idempotency_key: run.id.to_string(),
            run,
            system_prompt: mentor.system_prompt,
            prompt,
            settings: target.settings,
            api_key: api_key.or(target.api_key),
            session_token,
            session_id: session_id.to_string(),
            username,
            pathway: request.pathway,
            parent_session_id: request.parent_session_id,
            parent_mentor_id: request.parent_mentor_id,
            deadline,
            services: Services::default(),
            log: RunLog::clone(log),
            room: room.clone(),
            trace: trace.child(),
        };
        Ok(Prepared { provider: target.provider, question, session, groups: mentor.service_groups })
    }

    /// Asks, no longer than the run may last.
    async fn ask(
        &self,
        kind: &str,
        prepared: Prepared,
        tally: &Arc<Tally>,
        timing: Timing,
        announce: impl Fn() + Send + Sync,
    ) -> Result<Answer, Failure> {
        let question = &prepared.question;
        question.log.line(format_args!(
            "asked `{kind}`: system prompt of {} bytes, prompt of {} bytes",
            question.system_prompt.len(),
            question.prompt.len()
        ));
        let (run_id, trace) = (question.run.id, question.trace.clone());
        let ended = |failure: Option<&'static str>| {
            trace.end("ask", Kind::Client, |span| span.with("provider.kind", kind.to_owned()).failed(failure));
        };
        let mut asking = pin!(
            AssertUnwindSafe(async move {
                let services = self.offer(kind, &prepared, tally).await;
                let Prepared { provider, mut question, .. } = prepared;
                question.services = services;
                provider.ask(question).await
            })
            .catch_unwind()
        );
        let mut time_out = pin!(self.clock.sleep_until(timing.deadline));
        let mut lasts = pin!(self.clock.sleep_until(timing.lasts));
        let mut announced = timing.announced;
        loop {
            tokio::select! {
                biased;
                outcome = &mut asking => return match outcome {
                    Ok(answer) => {
                        ended(answer.as_ref().err().map(|_| RunReason::ProviderFailed.as_str()));
                        answer.map_err(|error| Failure::new(RunReason::ProviderFailed, error.to_string()))
                    }
                    Err(_panic) => {
                        ended(Some(RunReason::ProviderFailed.as_str()));
                        tracing::error!(run.id = %run_id, provider.kind = kind, "a provider panicked, its run fails");
                        let text = format!("provider `{kind}` panicked: a defect, see the runner's own log");
                        Err(Failure::new(RunReason::ProviderFailed, text))
                    }
                },
                () = &mut time_out => {
                    ended(Some(RunReason::TimedOut.as_str()));
                    let text = format!("no answer within {} s", timing.timeout.as_secs_f64());
                    return Err(Failure::new(RunReason::TimedOut, text));
                }
                () = &mut lasts, if !announced => {
                    announced = true;
                    announce();
                }
            }
        }
    }
}

/// When a run is over, and when it is known to have begun.
#[derive(Clone, Copy)]
struct Timing {
    timeout: Duration,
    deadline: DateTime<Utc>,
    /// From when on it is a run that lasts.
    lasts: DateTime<Utc>,
    /// Whether that was said already.
    announced: bool,
}

/// Whom a session token is for: the origin that is asked, or what is asked inside of Carillon.
fn audience_of(target: &Target) -> String {
    match Url::parse(&target.settings.base_url).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => target.kind.clone(),
    }
}

fn requested(request: &RunRequest) -> String {
    let RunRequest { run, mentor, .. } = request;
    format!(
        "requested: run {}, run attempt {}, of agent {} by {} for {}: ask mentor {} `{}`",
        run.id,
        run.run_attempt,
        run.agent_id,
        run.trigger,
        shown(run.nominal_time),
        mentor.id,
        mentor.name
    )
}

fn result_of(outcome: Result<Answer, Failure>, log: &RunLog, took: Duration, session_id: Uuid) -> RunResult {
    let took_ms = took.as_millis();
    let session_id = session_id.to_string();
    match outcome {
        Ok(Answer { output, goes_on, usage }) => {
            let more = if goes_on { "more than " } else { "" };
            let step = format!("answered: {more}{} bytes after {took_ms} ms", output.len());
            let (output, log) =
                if goes_on { log.finish_beginning(step, &output) } else { log.finish(step, Some(&output)) };
            RunResult { reason: None, output, log, usage, session_id }
        }
        Err(Failure { reason, text }) => {
            let (output, log) = log.finish(format_args!("failed after {took_ms} ms: {reason}: {text}"), None);
            RunResult { reason: Some(reason), output, log, usage: Usage::default(), session_id }
        }
    }
}

fn report(run_id: RunId, provider: &str, result: &RunResult, took: Duration) {
    let outcome = result.reason.map_or("success", RunReason::as_str);
    tracing::debug!(run.id = %run_id, outcome, duration_ms = took.as_millis(), "a run ended");
    metrics::counter!("carillon_runs_asked_total", "provider" => provider.to_owned(), "outcome" => outcome)
        .increment(1);
    metrics::histogram!("carillon_run_seconds", "provider" => provider.to_owned()).record(took.as_secs_f64());
}
