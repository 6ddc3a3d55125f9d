//! Runs to and from their protobuf messages.

use std::time::Duration;

use super::generated as wire;
use super::{Wire, WireError, all_from, all_to, required_time, to_time, to_timestamp, to_word_or};
use crate::document::{DEFAULT_TIMEOUT, Document, Mentor, Receiver};
use crate::event::{HeldTick, RunCancel, RunStarted, RunnerJoined, RunsFinished, RunsHeld, RunsRecorded, TicksSkipped};
use crate::id::{AgentId, OrganisationKey, RunId};
use crate::internal::{TickPage, TriggerRequest};
use crate::run::{
    Run, RunAnswer, RunReason, RunRecord, RunRequest, RunResult, RunState, ScheduleRecord, SkipReason, SkippedTick,
    Tick, TickOutcome, Trigger, Usage,
};

impl Wire for Run {
    type Message = wire::Run;

    fn to_message(&self) -> wire::Run {
        wire::Run {
            id: self.id.0,
            organisation: self.organisation.0.clone(),
            agent_id: self.agent_id.0,
            trigger: self.trigger.as_str().to_owned(),
            fire_time: Some(to_timestamp(self.fire_time)),
            nominal_time: Some(to_timestamp(self.nominal_time)),
            sequence: self.sequence,
            run_attempt: self.run_attempt,
            passed_over: self.passed_over,
        }
    }

    fn from_message(message: wire::Run) -> Result<Self, WireError> {
        Ok(Self {
            id: RunId(message.id),
            organisation: OrganisationKey(message.organisation),
            agent_id: AgentId(message.agent_id),
            trigger: to_word_or(&message.trigger, Trigger::Schedule),
            fire_time: required_time("run.fire_time", message.fire_time)?,
            nominal_time: required_time("run.nominal_time", message.nominal_time)?,
            sequence: message.sequence,
            run_attempt: message.run_attempt,
            passed_over: message.passed_over,
        })
    }
}

fn required_run(run: Option<wire::Run>) -> Result<Run, WireError> {
    Run::from_message(run.ok_or(WireError::Missing("run"))?)
}

impl Wire for RunRequest {
    type Message = wire::RunRequested;

    fn to_message(&self) -> wire::RunRequested {
        wire::RunRequested {
            run: Some(self.run.to_message()),
            mentor: Some(self.mentor.to_message()),
            prompt: self.prompt.clone(),
            username: self.username.clone(),
            last_editor: self.last_editor.clone(),
            pathway: self.pathway.clone(),
            parent_session_id: self.parent_session_id.clone(),
            parent_mentor_id: self.parent_mentor_id,
            timeout_seconds: u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX),
            announce_start: self.announce_start,
        }
    }

    fn from_message(message: wire::RunRequested) -> Result<Self, WireError> {
        Ok(Self {
            run: required_run(message.run)?,
            mentor: Mentor::from_message(message.mentor.ok_or(WireError::Missing("mentor"))?)?,
            prompt: message.prompt,
            username: message.username,
            last_editor: message.last_editor,
            pathway: message.pathway,
            parent_session_id: message.parent_session_id,
            parent_mentor_id: message.parent_mentor_id,
            timeout: match message.timeout_seconds {
                0 => DEFAULT_TIMEOUT,
                seconds => Duration::from_secs(seconds.into()),
            },
            announce_start: message.announce_start,
        })
    }
}

impl Wire for RunStarted {
    type Message = wire::RunStarted;

    fn to_message(&self) -> wire::RunStarted {
        wire::RunStarted {
            run_id: self.run_id.0,
            run_attempt: self.run_attempt,
            started_at: Some(to_timestamp(self.started_at)),
        }
    }

    fn from_message(message: wire::RunStarted) -> Result<Self, WireError> {
        Ok(Self {
            run_id: RunId(message.run_id),
            run_attempt: message.run_attempt,
            started_at: required_time("started_at", message.started_at)?,
        })
    }
}

impl Wire for RunAnswer {
    type Message = wire::RunAnswered;

    fn to_message(&self) -> wire::RunAnswered {
        wire::RunAnswered {
            run_id: self.run_id.0,
            run_attempt: self.run_attempt,
            started_at: Some(to_timestamp(self.started_at)),
            ended_at: Some(to_timestamp(self.ended_at)),
            result: Some(self.result.to_message()),
        }
    }

    fn from_message(message: wire::RunAnswered) -> Result<Self, WireError> {
        Ok(Self {
            run_id: RunId(message.run_id),
            run_attempt: message.run_attempt,
            started_at: required_time("started_at", message.started_at)?,
            ended_at: required_time("ended_at", message.ended_at)?,
            result: RunResult::from_message(message.result.ok_or(WireError::Missing("result"))?)?,
        })
    }
}

impl Wire for RunResult {
    type Message = wire::RunResult;

    fn to_message(&self) -> wire::RunResult {
        wire::RunResult {
            status: self.state().as_str().to_owned(),
            reason: self.reason.map(RunReason::as_str).unwrap_or_default().to_owned(),
            output: self.output.clone(),
            log: self.log.clone(),
            usage: Some(wire::Usage {
                prompt_tokens: self.usage.prompt_tokens,
                completion_tokens: self.usage.completion_tokens,
            }),
            session_id: self.session_id.clone(),
        }
    }

    fn from_message(message: wire::RunResult) -> Result<Self, WireError> {
        let reason = match to_word_or(&message.status, RunState::Error) {
            RunState::Success => None,
            RunState::Error => Some(to_word_or(&message.reason, RunReason::Unknown)),
            state => return Err(WireError::invalid("result.status", format!("a result cannot be `{state}`"))),
        };
        let usage = message.usage.unwrap_or_default();
        Ok(Self {
            reason,
            output: message.output,
            log: message.log,
            usage: Usage { prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens },
            session_id: message.session_id,
        })
    }
}

impl Wire for RunRecord {
    type Message = wire::RunRecord;

    fn to_message(&self) -> wire::RunRecord {
        wire::RunRecord {
            run: Some(self.run.to_message()),
            state: self.state.as_str().to_owned(),
            prompt: self.prompt.clone(),
            requested_at: Some(to_timestamp(self.requested_at)),
            started_at: self.started_at.map(to_timestamp),
            ended_at: self.ended_at.map(to_timestamp),
            result: self.result.as_ref().map(RunResult::to_message),
            next_fire_time: self.next_fire_time.map(to_timestamp),
            finished_timing_version: self.finished_timing_version.unwrap_or_default(),
            agent_version: self.agent_version.unwrap_or_default(),
        }
    }

    fn from_message(message: wire::RunRecord) -> Result<Self, WireError> {
        let result = message.result.map(RunResult::from_message).transpose()?;
        let unknown = match (&result, message.started_at.is_some()) {
            (Some(result), _) => result.state(),
            (None, true) => RunState::Running,
            (None, false) => RunState::Pending,
        };
        Ok(Self {
            run: required_run(message.run)?,
            state: to_word_or(&message.state, unknown),
            prompt: message.prompt,
            requested_at: required_time("requested_at", message.requested_at)?,
            started_at: to_time("started_at", message.started_at)?,
            ended_at: to_time("ended_at", message.ended_at)?,
            result,
            next_fire_time: to_time("next_fire_time", message.next_fire_time)?,
            finished_timing_version: Some(message.finished_timing_version).filter(|version| *version != 0),
            agent_version: Some(message.agent_version).filter(|version| *version != 0),
        })
    }
}

impl Wire for RunCancel {
    type Message = wire::RunCancel;

    fn to_message(&self) -> wire::RunCancel {
        wire::RunCancel { run_ids: self.run_ids.iter().map(|id| id.0).collect(), complete: self.complete }
    }

    fn from_message(message: wire::RunCancel) -> Result<Self, WireError> {
        Ok(Self { run_ids: message.run_ids.into_iter().map(RunId).collect(), complete: message.complete })
    }
}

impl Wire for RunnerJoined {
    type Message = wire::RunnerJoined;

    fn to_message(&self) -> wire::RunnerJoined {
        wire::RunnerJoined {}
    }

    fn from_message(_: wire::RunnerJoined) -> Result<Self, WireError> {
        Ok(Self)
    }
}

impl Wire for RunsRecorded {
    type Message = wire::RunsRecorded;

    fn to_message(&self) -> wire::RunsRecorded {
        wire::RunsRecorded { runs: all_to(&self.runs), schedules: all_to(&self.schedules) }
    }

    fn from_message(message: wire::RunsRecorded) -> Result<Self, WireError> {
        Ok(Self { runs: all_from(message.runs)?, schedules: all_from(message.schedules)? })
    }
}

impl Wire for ScheduleRecord {
    type Message = wire::ScheduleRecord;

    fn to_message(&self) -> wire::ScheduleRecord {
        wire::ScheduleRecord {
            agent_id: self.agent_id.0,
            next_fire_time: self.next_fire_time.map(to_timestamp),
            finished_timing_version: self.finished_timing_version.unwrap_or_default(),
        }
    }

    fn from_message(message: wire::ScheduleRecord) -> Result<Self, WireError> {
        Ok(Self {
            agent_id: AgentId(message.agent_id),
            next_fire_time: to_time("schedules.next_fire_time", message.next_fire_time)?,
            finished_timing_version: Some(message.finished_timing_version).filter(|version| *version != 0),
        })
    }
}

impl Wire for RunsFinished {
    type Message = wire::RunsFinished;

    fn to_message(&self) -> wire::RunsFinished {
        wire::RunsFinished { runs: all_to(&self.runs) }
    }

    fn from_message(message: wire::RunsFinished) -> Result<Self, WireError> {
        Ok(Self { runs: all_from(message.runs)? })
    }
}

impl Wire for SkippedTick {
    type Message = wire::SkippedTick;

    fn to_message(&self) -> wire::SkippedTick {
        wire::SkippedTick {
            organisation: self.organisation.0.clone(),
            agent_id: self.agent_id.0,
            fire_time: Some(to_timestamp(self.fire_time)),
            nominal_time: Some(to_timestamp(self.nominal_time)),
            until: Some(to_timestamp(self.until)),
            reason: self.reason.as_str().to_owned(),
            agent_version: self.agent_version.unwrap_or_default(),
        }
    }

    fn from_message(message: wire::SkippedTick) -> Result<Self, WireError> {
        Ok(Self {
            organisation: OrganisationKey(message.organisation),
            agent_id: AgentId(message.agent_id),
            fire_time: required_time("ticks.fire_time", message.fire_time)?,
            nominal_time: required_time("ticks.nominal_time", message.nominal_time)?,
            until: required_time("ticks.until", message.until)?,
            reason: to_word_or(&message.reason, SkipReason::Unknown),
            agent_version: Some(message.agent_version).filter(|version| *version != 0),
        })
    }
}

impl Wire for TicksSkipped {
    type Message = wire::TicksSkipped;

    fn to_message(&self) -> wire::TicksSkipped {
        wire::TicksSkipped { ticks: all_to(&self.ticks) }
    }

    fn from_message(message: wire::TicksSkipped) -> Result<Self, WireError> {
        Ok(Self { ticks: all_from(message.ticks)? })
    }
}

impl Wire for RunsHeld {
    type Message = wire::RunsHeld;

    fn to_message(&self) -> wire::RunsHeld {
        wire::RunsHeld {
            receiver: self.receiver.as_str().to_owned(),
            run_ids: self.run_ids.iter().map(|id| id.0).collect(),
            ticks: all_to(&self.ticks),
        }
    }

    fn from_message(message: wire::RunsHeld) -> Result<Self, WireError> {
        let Ok(receiver) = message.receiver.parse() else {
            return Ok(Self { receiver: Receiver::AgentRegistry, run_ids: Vec::new(), ticks: Vec::new() });
        };
        let run_ids = message.run_ids.into_iter().map(RunId).collect();
        Ok(Self { receiver, run_ids, ticks: all_from(message.ticks)? })
    }
}

impl Wire for HeldTick {
    type Message = wire::HeldTick;

    fn to_message(&self) -> wire::HeldTick {
        wire::HeldTick { agent_id: self.agent_id.0, fire_time: Some(to_timestamp(self.fire_time)) }
    }

    fn from_message(message: wire::HeldTick) -> Result<Self, WireError> {
        let fire_time = required_time("ticks.fire_time", message.fire_time)?;
        Ok(Self { agent_id: AgentId(message.agent_id), fire_time })
    }
}

impl Wire for TriggerRequest {
    type Message = wire::TriggerRequest;

    fn to_message(&self) -> wire::TriggerRequest {
        wire::TriggerRequest {
            documents: all_to(&self.documents),
            agent_id: self.agent_id.0,
            prompt: self.prompt.clone(),
            nominal_time: self.nominal_time.map(to_timestamp),
            idempotency_key: self.idempotency_key.clone(),
        }
    }

    fn from_message(message: wire::TriggerRequest) -> Result<Self, WireError> {
        Ok(Self {
            documents: all_from::<Document>(message.documents)?,
            agent_id: AgentId(message.agent_id),
            prompt: message.prompt,
            nominal_time: to_time("nominal_time", message.nominal_time)?,
            idempotency_key: message.idempotency_key,
        })
    }
}

impl Wire for Tick {
    type Message = wire::Tick;

    fn to_message(&self) -> wire::Tick {
        let (outcome, reason, log_id, until) = match &self.outcome {
            TickOutcome::Run(id) => ("run", String::new(), id.0, None),
            TickOutcome::Skipped { reason, until } => {
                ("skipped", reason.as_str().to_owned(), 0, Some(to_timestamp(*until)))
            }
        };
        wire::Tick {
            fire_time: Some(to_timestamp(self.fire_time)),
            nominal_time: Some(to_timestamp(self.nominal_time)),
            outcome: outcome.to_owned(),
            reason,
            log_id,
            until,
        }
    }

    fn from_message(message: wire::Tick) -> Result<Self, WireError> {
        let outcome = match message.outcome.as_str() {
            "run" => TickOutcome::Run(RunId(message.log_id)),
            "skipped" => TickOutcome::Skipped {
                reason: to_word_or(&message.reason, SkipReason::Unknown),
                until: required_time("until", message.until)?,
            },
            other => return Err(WireError::invalid("outcome", format!("`{other}` is not one of run, skipped"))),
        };
        Ok(Self {
            fire_time: required_time("fire_time", message.fire_time)?,
            nominal_time: required_time("nominal_time", message.nominal_time)?,
            outcome,
        })
    }
}

impl Wire for TickPage {
    type Message = wire::TickPage;

    fn to_message(&self) -> wire::TickPage {
        wire::TickPage { count: self.count, ticks: all_to(&self.ticks) }
    }

    fn from_message(message: wire::TickPage) -> Result<Self, WireError> {
        Ok(Self { count: message.count, ticks: all_from(message.ticks)? })
    }
}
