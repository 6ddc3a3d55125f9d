//! Documents: organisations, mentors and agents as the registry announces them, whole and versioned.
//!
//! A receiver applies a document only when its version is higher than the one that it holds. A delete is a version
//! too: a tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::crontab::CrontabFields;
use crate::id::{AgentId, MentorId, OrganisationKey};
use crate::run_state::RunState;
use crate::word::words;

words! {
    /// Who stores what the registry or the dispatcher announces, and says that it holds it.
    Receiver {
        /// Holds documents and the run log.
        AgentRegistry = "agent-registry",
        /// Holds documents.
        CronDispatcher = "cron-dispatcher",
        /// Holds documents and results to deliver.
        CallbackDeliverer = "callback-deliverer",
    }
}

words! {
    /// The three kinds of document, in the order in which they lean on one another.
    DocumentKind {
        /// A tenant's settings.
        Organisation = "organisation",
        /// An AI agent that can be asked.
        Mentor = "mentor",
        /// A periodic agent.
        Agent = "agent",
    }
}

/// One organisation, mentor or agent in one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Whose it is.
    pub organisation: OrganisationKey,
    /// Higher is newer; see [`next_version`].
    pub version: i64,
    /// What it says.
    pub subject: Subject,
}

/// What a document says: the thing whole, or that it is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A tenant's settings.
    Organisation(Organisation),
    /// An AI agent that can be asked.
    Mentor(Mentor),
    /// A mentor that was deleted.
    MentorDeleted(MentorId),
    /// A periodic agent.
    Agent(Box<Agent>),
    /// A periodic agent that was deleted.
    AgentDeleted(AgentId),
}

impl Document {
    /// Which kind of document this is.
    #[must_use]
    pub fn kind(&self) -> DocumentKind {
        match self.subject {
            Subject::Organisation(_) => DocumentKind::Organisation,
            Subject::Mentor(_) | Subject::MentorDeleted(_) => DocumentKind::Mentor,
            Subject::Agent(_) | Subject::AgentDeleted(_) => DocumentKind::Agent,
        }
    }

    /// Its key among the documents of its kind: the organisation's key, or the decimal id.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.subject {
            Subject::Organisation(_) => self.organisation.0.clone(),
            Subject::Mentor(mentor) => mentor.id.to_string(),
            Subject::MentorDeleted(id) => id.to_string(),
            Subject::Agent(agent) => agent.id.to_string(),
            Subject::AgentDeleted(id) => id.to_string(),
        }
    }

    /// Whether this is a tombstone.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        matches!(self.subject, Subject::MentorDeleted(_) | Subject::AgentDeleted(_))
    }
}

/// The version of an edit made at `now` to a document in version `previous` (0: it is new).
///
/// The clock is part of it so that edits win even after the registry was restored from a backup.
#[must_use]
pub fn next_version(previous: i64, now: DateTime<Utc>) -> i64 {
    now.timestamp_micros().max(previous.saturating_add(1))
}

/// The moment that a version names: when the edit was made, as nearly as versions tell.
#[must_use]
pub fn version_time(version: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(version).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A tenant's settings. By default: UTC, not paused, no limits of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Organisation {
    /// The zone of crontabs that name none.
    pub timezone: Tz,
    /// Whether an operator stopped all its agents.
    pub pause: Pause,
    /// A provider of the configuration for mentors that name none; empty: the configuration's default.
    pub default_provider: String,
    /// Most runs requested or running at once; none: no limit.
    pub runs_in_flight_max: Option<NonZeroU32>,
    /// Most delivery attempts at once; none: the deliverer's own limit alone.
    pub callbacks_in_flight_max: Option<NonZeroU32>,
    /// Where its people are warned of endpoints that fail.
    pub alert: Option<Alert>,
    /// Days that skipped ticks are kept; none: as the configuration says.
    pub ticks_days: Option<NonZeroU32>,
    /// Days that settled deliveries are kept; none: as the configuration says.
    pub deliveries_days: Option<NonZeroU32>,
    /// Users that runs may not act as any more.
    pub revoked_users: BTreeSet<String>,
}

/// Where warnings of failing endpoints go.
#[derive(Clone, PartialEq, Eq)]
pub struct Alert {
    /// The URL that gets them.
    pub url: String,
    /// What they are signed with, sealed; empty: they are not signed.
    pub sealed_secret: Vec<u8>,
}

impl std::fmt::Debug for Alert {
    /// Without the URL's query or the secret: either may hold a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alert").field("url", &without_query(&self.url)).finish_non_exhaustive()
    }
}

/// Stopped by an operator, unlike what its owner disables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause {
    /// Whether it is stopped now.
    pub paused: bool,
    /// Of the last resume: what to do about the ticks in between; none: as each schedule says.
    pub resumed_with: Option<CatchUp>,
}

/// An AI agent that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Mentor {
    /// Its integer id.
    pub id: MentorId,
    /// Its public UUID, as text.
    pub unique_id: String,
    /// Its name.
    pub name: String,
    /// What it is told before every prompt; may be empty.
    pub system_prompt: String,
    /// How it is asked.
    pub provider: Provider,
    /// Most runs of all its agents at once; none: no limit.
    pub runs_in_flight_max: Option<NonZeroU32>,
    /// Ids of the groups whose services its runs may call.
    pub service_groups: Vec<String>,
}

/// How a mentor is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Provider {
    /// `openai`, `http` or `echo`; empty where `name` says it.
    pub kind: String,
    /// A provider of the configuration; empty: none.
    pub name: String,
    /// Where it answers.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<i64>,
    /// The API key, sealed; empty: none.
    pub sealed_api_key: Vec<u8>,
    /// Sent along with each request.
    pub headers: BTreeMap<String, String>,
}

/// A periodic agent: a mentor, a prompt, a schedule, an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Whom it asks.
    pub mentor_id: MentorId,
    /// Its title.
    pub title: String,
    /// What it asks; may be empty.
    pub prompt: String,
    /// The administrator who created it: a run acts as this user.
    pub username: String,
    /// Who edited it last.
    pub last_editor: String,
    /// When it fires.
    pub schedule: Schedule,
    /// Where its results go; none: nowhere.
    pub endpoint: Option<Endpoint>,
    /// The collection that the mentor uses; opaque.
    pub pathway: String,
    /// The chat session that created it; opaque.
    pub parent_session_id: String,
    /// The mentor that created it; opaque.
    pub parent_mentor_id: Option<i64>,
    /// The agent that it follows; with one it never fires from its crontab alone.
    pub previous: Option<Previous>,
    /// Whether an operator stopped it.
    pub pause: Pause,
    /// Most runs at once; none: no limit.
    pub runs_in_flight_max: Option<NonZeroU32>,
}

/// The agent that must have come to a status before this one fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// Which agent.
    pub agent_id: AgentId,
    /// Which status of its newest run.
    pub status: RunState,
}

/// When an agent fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Rises only when timing changes, to the version of that edit.
    pub timing_version: i64,
    /// The five fields as written.
    pub crontab: CrontabFields,
    /// The zone that they are read in; none: the organisation's.
    pub timezone: Option<Tz>,
    /// Whether it fires at all.
    pub enabled: bool,
    /// Whether it fires only once per timing version.
    pub one_off: bool,
    /// Nothing fires before this.
    pub start_time: Option<DateTime<Utc>>,
    /// How long a run may take, counted from its start.
    pub timeout: Duration,
    /// Nothing fires at or after this.
    pub end_time: Option<DateTime<Utc>>,
    /// Each tick fires up to so much later than its nominal time, by a spread that is the same every time.
    pub jitter: Duration,
    /// What becomes of a tick while an earlier run is not ended.
    pub overlap: OverlapPolicy,
    /// What becomes of ticks that were missed.
    pub catch_up: CatchUp,
    /// How far back a missed tick is still made good.
    pub catch_up_window: Duration,
    /// Failed answers until a run ends as `error`.
    pub max_attempts: NonZeroU32,
}

/// How long a run may take where its agent does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How far back a missed tick is made good where its schedule does not say.
pub const DEFAULT_CATCH_UP_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Schedule {
    /// Every minute, in the organisation's zone, as the original API knows it.
    fn default() -> Self {
        Self {
            timing_version: 0,
            crontab: CrontabFields::default(),
            timezone: None,
            enabled: true,
            one_off: false,
            start_time: None,
            timeout: DEFAULT_TIMEOUT,
            end_time: None,
            jitter: Duration::ZERO,
            overlap: OverlapPolicy::default(),
            catch_up: CatchUp::default(),
            catch_up_window: DEFAULT_CATCH_UP_WINDOW,
            max_attempts: NonZeroU32::MIN,
        }
    }
}

words! {
    /// What becomes of a tick while an earlier run of the agent is not ended.
    #[derive(Default)]
    OverlapPolicy {
        /// Both run.
        #[default]
        Allow = "allow",
        /// The tick is skipped.
        Skip = "skip",
        /// The tick waits for the run to end; of several, the newest.
        QueueOne = "queue_one",
        /// The earlier run is cancelled.
        CancelRunning = "cancel_running",
    }
}

words! {
    /// What becomes of the ticks that were missed while nothing could fire.
    #[derive(Default)]
    CatchUp {
        /// They are skipped.
        None = "none",
        /// The newest runs, the others are coalesced into it.
        #[default]
        Latest = "latest",
        /// Each runs.
        All = "all",
    }
}

/// Where an agent's results go.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The callback URL.
    pub url: String,
    /// The callback secret, sealed; empty: callbacks are not signed.
    pub sealed_secret: Vec<u8>,
    /// After a rotation, the secret before it, while receivers may still use it.
    pub previous_secret: Option<PreviousSecret>,
    /// Whether the payload is encrypted with a key made from the secret.
    pub encrypt: bool,
    /// Whether only `X-Hub-Signature-256` is sent, not the headers of Standard Webhooks.
    pub signature_only_hub: bool,
    /// Which things are called back.
    pub callback_on: CallbackOn,
}

/// A secret that was replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret, sealed.
    pub sealed: Vec<u8>,
    /// When its grace ends.
    pub until: DateTime<Utc>,
}

/// Which things an agent's endpoint is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallbackOn {
    /// Runs that ended.
    pub runs: bool,
    /// Ticks that were skipped.
    pub skipped: bool,
}

impl Default for CallbackOn {
    fn default() -> Self {
        Self { runs: true, skipped: false }
    }
}

impl Endpoint {
    /// Callbacks of ended runs to `url`, signed with a sealed secret.
    #[must_use]
    pub fn new(url: String, sealed_secret: Vec<u8>) -> Self {
        Self {
            url,
            sealed_secret,
            previous_secret: None,
            encrypt: false,
            signature_only_hub: false,
            callback_on: CallbackOn::default(),
        }
    }
}

impl std::fmt::Debug for Endpoint {
    /// Without the URL's query or the secrets: either may hold a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &without_query(&self.url)).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PreviousSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreviousSecret").field("until", &self.until).finish_non_exhaustive()
    }
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// A document version that a receiver stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDocument {
    /// Which kind.
    pub kind: DocumentKind,
    /// Its key among its kind, as [`Document::key`].
    pub key: String,
    /// This version or a later one is stored.
    pub version: i64,
    /// Of an agent, from the dispatcher: when it fires next.
    pub next_fire_time: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_rises_with_the_clock_and_even_when_the_clock_stands_or_falls_back() {
        let now = version_time(1_000_000);
        assert_eq!(next_version(0, now), 1_000_000);
        assert_eq!(next_version(1_000_000, now), 1_000_001);
        assert_eq!(next_version(2_000_000, now), 2_000_001);
    }

    #[test]
    fn an_endpoint_is_printed_without_secret_or_query() {
        let endpoint = Endpoint::new("https://a.example/x?token=t0ps3cret".into(), b"s3al".to_vec());
        assert_eq!(format!("{endpoint:?}"), "Endpoint { url: \"https://a.example/x\", .. }");
    }
}
