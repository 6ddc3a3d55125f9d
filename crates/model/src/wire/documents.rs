//! Documents to and from their protobuf messages.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono_tz::Tz;

use super::generated as wire;
use super::generated::document::Subject as WireSubject;
use super::{Wire, WireError, all_from, all_to, to_time, to_timestamp, to_word_or};
use crate::crontab::CrontabFields;
use crate::document::{
    Agent, Alert, CallbackOn, CatchUp, DEFAULT_CATCH_UP_WINDOW, DEFAULT_TIMEOUT, Document, DocumentKind, Endpoint,
    HeldDocument, Mentor, Organisation, OverlapPolicy, Pause, Previous, PreviousSecret, Provider, Receiver, Schedule,
    Subject,
};
use crate::event::{DocumentChanged, DocumentsHeld, Replanned};
use crate::id::{AgentId, MentorId, OrganisationKey};
use crate::run_state::RunState;

fn to_zone(field: &'static str, name: &str) -> Result<Tz, WireError> {
    name.parse().map_err(|_| WireError::invalid(field, format!("`{name}` is no IANA time zone")))
}

fn from_limit(limit: Option<NonZeroU32>) -> u32 {
    limit.map(NonZeroU32::get).unwrap_or_default()
}

fn from_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Zero stands for what an older version did not say.
fn to_duration(seconds: u32) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(seconds.into()))
}

fn to_previous(previous: wire::Previous) -> Previous {
    let status = to_word_or(&previous.status, RunState::Success);
    Previous { agent_id: AgentId(previous.agent_id), status }
}

impl Wire for Document {
    type Message = wire::Document;

    fn to_message(&self) -> wire::Document {
        let subject = match &self.subject {
            Subject::Organisation(organisation) => WireSubject::OrganisationSettings(organisation.to_message()),
            Subject::Mentor(mentor) => WireSubject::Mentor(mentor.to_message()),
            Subject::MentorDeleted(id) => WireSubject::Mentor(wire::Mentor { id: id.0, ..Default::default() }),
            Subject::Agent(agent) => WireSubject::Agent(agent.to_message()),
            Subject::AgentDeleted(id) => WireSubject::Agent(wire::Agent { id: id.0, ..Default::default() }),
        };
        wire::Document {
            organisation: self.organisation.0.clone(),
            version: self.version,
            deleted: self.is_deleted(),
            subject: Some(subject),
        }
    }

    fn from_message(message: wire::Document) -> Result<Self, WireError> {
        let subject = match (message.subject.ok_or(WireError::Missing("subject"))?, message.deleted) {
            (WireSubject::OrganisationSettings(settings), _) => {
                Subject::Organisation(Organisation::from_message(settings)?)
            }
            (WireSubject::Mentor(mentor), true) => Subject::MentorDeleted(MentorId(mentor.id)),
            (WireSubject::Mentor(mentor), false) => Subject::Mentor(Mentor::from_message(mentor)?),
            (WireSubject::Agent(agent), true) => Subject::AgentDeleted(AgentId(agent.id)),
            (WireSubject::Agent(agent), false) => Subject::Agent(Box::new(Agent::from_message(agent)?)),
        };
        Ok(Self { organisation: OrganisationKey(message.organisation), version: message.version, subject })
    }
}

impl Wire for Organisation {
    type Message = wire::Organisation;

    fn to_message(&self) -> wire::Organisation {
        let alert = self.alert.clone();
        let (alert_url, sealed_alert_secret) = alert.map(|alert| (alert.url, alert.sealed_secret)).unwrap_or_default();
        wire::Organisation {
            timezone: self.timezone.to_string(),
            pause: Some(self.pause.to_message()),
            default_provider: self.default_provider.clone(),
            runs_in_flight_max: from_limit(self.runs_in_flight_max),
            callbacks_in_flight_max: from_limit(self.callbacks_in_flight_max),
            alert_url,
            sealed_alert_secret: sealed_alert_secret.into(),
            ticks_days: from_limit(self.ticks_days),
            deliveries_days: from_limit(self.deliveries_days),
            revoked_users: self.revoked_users.iter().cloned().collect(),
        }
    }

    fn from_message(message: wire::Organisation) -> Result<Self, WireError> {
        let sealed_secret = message.sealed_alert_secret.into();
        let alert = Some(Alert { url: message.alert_url, sealed_secret }).filter(|alert| !alert.url.is_empty());
        Ok(Self {
            timezone: to_zone("organisation_settings.timezone", &message.timezone)?,
            pause: Pause::from_message(message.pause.unwrap_or_default())?,
            default_provider: message.default_provider,
            runs_in_flight_max: NonZeroU32::new(message.runs_in_flight_max),
            callbacks_in_flight_max: NonZeroU32::new(message.callbacks_in_flight_max),
            alert,
            ticks_days: NonZeroU32::new(message.ticks_days),
            deliveries_days: NonZeroU32::new(message.deliveries_days),
            revoked_users: message.revoked_users.into_iter().collect(),
        })
    }
}

impl Wire for Pause {
    type Message = wire::Pause;

    fn to_message(&self) -> wire::Pause {
        let resumed_with = self.resumed_with.map(CatchUp::as_str).unwrap_or_default().to_owned();
        wire::Pause { paused: self.paused, resumed_with }
    }

    fn from_message(message: wire::Pause) -> Result<Self, WireError> {
        let resumed_with = Some(message.resumed_with).filter(|word| !word.is_empty());
        Ok(Self {
            paused: message.paused,
            resumed_with: resumed_with.map(|word| to_word_or(&word, CatchUp::default())),
        })
    }
}

impl Wire for Mentor {
    type Message = wire::Mentor;

    fn to_message(&self) -> wire::Mentor {
        wire::Mentor {
            id: self.id.0,
            unique_id: self.unique_id.clone(),
            name: self.name.clone(),
            system_prompt: self.system_prompt.clone(),
            provider: Some(self.provider.to_message()),
            runs_in_flight_max: from_limit(self.runs_in_flight_max),
            service_groups: self.service_groups.clone(),
        }
    }

    fn from_message(message: wire::Mentor) -> Result<Self, WireError> {
        Ok(Self {
            id: MentorId(message.id),
            unique_id: message.unique_id,
            name: message.name,
            system_prompt: message.system_prompt,
            provider: Provider::from_message(message.provider.ok_or(WireError::Missing("mentor.provider"))?)?,
            runs_in_flight_max: NonZeroU32::new(message.runs_in_flight_max),
            service_groups: message.service_groups,
        })
    }
}

impl Wire for Provider {
    type Message = wire::Provider;

    fn to_message(&self) -> wire::Provider {
        wire::Provider {
            kind: self.kind.clone(),
            name: self.name.clone(),
            base_url: self.base_url.clone(),
            model: self.model.clone(),
            temperature: self.temperature,
            max_output_tokens: self.max_output_tokens,
            sealed_api_key: self.sealed_api_key.clone().into(),
            headers: self.headers.clone(),
        }
    }

    fn from_message(message: wire::Provider) -> Result<Self, WireError> {
        Ok(Self {
            kind: message.kind,
            name: message.name,
            base_url: message.base_url,
            model: message.model,
            temperature: message.temperature,
            max_output_tokens: message.max_output_tokens,
            sealed_api_key: message.sealed_api_key.into(),
            headers: message.headers,
        })
    }
}

impl Wire for Agent {
    type Message = wire::Agent;

    fn to_message(&self) -> wire::Agent {
        wire::Agent {
            id: self.id.0,
            mentor_id: self.mentor_id.0,
            title: self.title.clone(),
            prompt: self.prompt.clone(),
            username: self.username.clone(),
            last_editor: self.last_editor.clone(),
            schedule: Some(self.schedule.to_message()),
            endpoint: self.endpoint.as_ref().map(Endpoint::to_message),
            pathway: self.pathway.clone(),
            parent_session_id: self.parent_session_id.clone(),
            parent_mentor_id: self.parent_mentor_id,
            previous: self.previous.map(|previous| wire::Previous {
                agent_id: previous.agent_id.0,
                status: previous.status.as_str().to_owned(),
            }),
            pause: Some(self.pause.to_message()),
            runs_in_flight_max: from_limit(self.runs_in_flight_max),
        }
    }

    fn from_message(message: wire::Agent) -> Result<Self, WireError> {
        Ok(Self {
            id: AgentId(message.id),
            mentor_id: MentorId(message.mentor_id),
            title: message.title,
            prompt: message.prompt,
            username: message.username,
            last_editor: message.last_editor,
            schedule: Schedule::from_message(message.schedule.ok_or(WireError::Missing("agent.schedule"))?)?,
            endpoint: message.endpoint.map(Endpoint::from_message).transpose()?,
            pathway: message.pathway,
            parent_session_id: message.parent_session_id,
            parent_mentor_id: message.parent_mentor_id,
            previous: message.previous.map(to_previous),
            pause: Pause::from_message(message.pause.unwrap_or_default())?,
            runs_in_flight_max: NonZeroU32::new(message.runs_in_flight_max),
        })
    }
}

impl Wire for Endpoint {
    type Message = wire::Endpoint;

    fn to_message(&self) -> wire::Endpoint {
        let previous = self.previous_secret.clone();
        wire::Endpoint {
            url: self.url.clone(),
            sealed_secret: self.sealed_secret.clone().into(),
            previous_secret_until: previous.as_ref().map(|secret| to_timestamp(secret.until)),
            sealed_previous_secret: previous.map(|secret| secret.sealed).unwrap_or_default().into(),
            encrypt: self.encrypt,
            signature_only_hub: self.signature_only_hub,
            without_runs: !self.callback_on.runs,
            with_skipped_ticks: self.callback_on.skipped,
        }
    }

    fn from_message(message: wire::Endpoint) -> Result<Self, WireError> {
        let until = to_time("endpoint.previous_secret_until", message.previous_secret_until)?;
        Ok(Self {
            url: message.url,
            sealed_secret: message.sealed_secret.into(),
            previous_secret: until.map(|until| PreviousSecret { sealed: message.sealed_previous_secret.into(), until }),
            encrypt: message.encrypt,
            signature_only_hub: message.signature_only_hub,
            callback_on: CallbackOn { runs: !message.without_runs, skipped: message.with_skipped_ticks },
        })
    }
}

impl Wire for Schedule {
    type Message = wire::Schedule;

    fn to_message(&self) -> wire::Schedule {
        let fields = self.crontab.clone();
        wire::Schedule {
            timing_version: self.timing_version,
            crontab: Some(wire::Crontab {
                minute: fields.minute,
                hour: fields.hour,
                day_of_month: fields.day_of_month,
                month_of_year: fields.month_of_year,
                day_of_week: fields.day_of_week,
            }),
            timezone: self.timezone.map(|zone| zone.to_string()).unwrap_or_default(),
            enabled: self.enabled,
            one_off: self.one_off,
            start_time: self.start_time.map(to_timestamp),
            timeout_seconds: from_seconds(self.timeout),
            end_time: self.end_time.map(to_timestamp),
            jitter_seconds: from_seconds(self.jitter),
            overlap_policy: self.overlap.as_str().to_owned(),
            catch_up: self.catch_up.as_str().to_owned(),
            catch_up_window_seconds: from_seconds(self.catch_up_window),
            max_attempts: self.max_attempts.get(),
        }
    }

    fn from_message(message: wire::Schedule) -> Result<Self, WireError> {
        let fields = message.crontab.ok_or(WireError::Missing("schedule.crontab"))?;
        let timezone = Some(message.timezone).filter(|name| !name.is_empty());
        Ok(Self {
            timing_version: message.timing_version,
            crontab: CrontabFields {
                minute: fields.minute,
                hour: fields.hour,
                day_of_month: fields.day_of_month,
                month_of_year: fields.month_of_year,
                day_of_week: fields.day_of_week,
            },
            timezone: timezone.map(|name| to_zone("schedule.timezone", &name)).transpose()?,
            enabled: message.enabled,
            one_off: message.one_off,
            start_time: to_time("schedule.start_time", message.start_time)?,
            timeout: to_duration(message.timeout_seconds).unwrap_or(DEFAULT_TIMEOUT),
            end_time: to_time("schedule.end_time", message.end_time)?,
            jitter: to_duration(message.jitter_seconds).unwrap_or_default(),
            overlap: to_word_or(&message.overlap_policy, OverlapPolicy::default()),
            catch_up: to_word_or(&message.catch_up, CatchUp::default()),
            catch_up_window: to_duration(message.catch_up_window_seconds).unwrap_or(DEFAULT_CATCH_UP_WINDOW),
            max_attempts: NonZeroU32::new(message.max_attempts).unwrap_or(NonZeroU32::MIN),
        })
    }
}

impl Wire for HeldDocument {
    type Message = wire::HeldDocument;

    fn to_message(&self) -> wire::HeldDocument {
        wire::HeldDocument {
            kind: self.kind.as_str().to_owned(),
            key: self.key.clone(),
            version: self.version,
            next_fire_time: self.next_fire_time.map(to_timestamp),
        }
    }

    fn from_message(message: wire::HeldDocument) -> Result<Self, WireError> {
        Ok(Self {
            kind: message.kind.parse().map_err(|unknown| WireError::invalid("documents.kind", unknown))?,
            key: message.key,
            version: message.version,
            next_fire_time: to_time("documents.next_fire_time", message.next_fire_time)?,
        })
    }
}

impl Wire for DocumentChanged {
    type Message = wire::DocumentChanged;

    fn to_message(&self) -> wire::DocumentChanged {
        wire::DocumentChanged { documents: all_to(&self.documents) }
    }

    fn from_message(message: wire::DocumentChanged) -> Result<Self, WireError> {
        // Of a kind that this version does not know: a newer one is to hold it.
        let known = message.documents.into_iter().filter(|document| document.subject.is_some()).collect();
        Ok(Self { documents: all_from(known)? })
    }
}

impl Wire for DocumentsHeld {
    type Message = wire::DocumentsHeld;

    fn to_message(&self) -> wire::DocumentsHeld {
        wire::DocumentsHeld {
            receiver: self.receiver.as_str().to_owned(),
            documents: all_to(&self.documents),
            replanned: all_to(&self.replanned),
        }
    }

    fn from_message(message: wire::DocumentsHeld) -> Result<Self, WireError> {
        let Ok(receiver) = message.receiver.parse() else {
            return Ok(Self { receiver: Receiver::CronDispatcher, documents: Vec::new(), replanned: Vec::new() });
        };
        let is_known = |document: &wire::HeldDocument| document.kind.parse::<DocumentKind>().is_ok();
        let documents = all_from(message.documents.into_iter().filter(is_known).collect())?;
        Ok(Self { receiver, documents, replanned: all_from(message.replanned)? })
    }
}

impl Wire for Replanned {
    type Message = wire::Replanned;

    fn to_message(&self) -> wire::Replanned {
        wire::Replanned { organisation: self.organisation.0.clone(), tzdb: self.tzdb.clone() }
    }

    fn from_message(message: wire::Replanned) -> Result<Self, WireError> {
        Ok(Self { organisation: OrganisationKey(message.organisation), tzdb: message.tzdb })
    }
}
