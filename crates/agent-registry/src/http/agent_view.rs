//! A periodic agent as the API shows it; the fields stand in the order of the published schema, ours after them.

use std::sync::Arc;

use diesel::QueryResult;
use serde::{Serialize, Serializer};
use service_kit::database::DbConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::mentor_view::MentorView;
use crate::policy;
use crate::store::activity::ActivityRow;
use crate::store::agents::AgentRow;
use crate::store::log_texts::{self, Ended};
use crate::store::mentors::MentorRow;
use crate::store::shown_agents::ShownAgent;
use crate::validation::agent::SecretChange;
use crate::validation::reference::MentorReference;
use crate::validation::time::render;

/// The longest name of a task.
const TASK_NAME_CHARS_MAX: usize = 200;
/// Most characters of a previous agent's output; the whole is in its log.
const PREVIOUS_OUTPUT_CHARS_MAX: usize = 65_536;
/// The status of an agent that never ran.
const NEVER_RAN: &str = "pending";

/// A periodic agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PeriodicAgent)]
pub(super) struct AgentView {
    id: i64,
    mentor: MentorField,
    title: String,
    username: String,
    description: String,
    prompt: String,
    task: TaskView,
    created_at: String,
    modified_at: String,
    enabled: bool,
    one_off: bool,
    platform_key: String,
    pathway: String,
    callback_url: String,
    callback_secret: String,
    parent_session_id: String,
    parent_mentor_id: Option<i64>,
    previous_agent: Option<i64>,
    previous_agent_status: String,
    /// What the run that it would be asked with put out: the previous agent's newest that ended as
    /// `previous_agent_status` says, or, where that is neither `success` nor `error`, the newest that ended. At most
    /// 65,536 characters, cut without a mark; the whole is in that run's log.
    previous_agent_output: String,
    callback_on: Vec<&'static str>,
    callback_options: CallbackOptionsView,
    next_fire_time: Option<String>,
    last_status: String,
    paused: bool,
    paused_note: String,
    callback_secret_set: bool,
    callback_state: String,
    failing_since: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CallbackOptions)]
struct CallbackOptionsView {
    encrypt: bool,
    signature_only_hub: bool,
}

/// Answers to reads hold the whole mentor; answers to writes name it as the request did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = MentorField)]
enum MentorField {
    #[schema(value_type = MentorView)]
    Whole(#[serde(serialize_with = "shared")] Arc<MentorView>),
    Id(i64),
    UniqueId(Uuid),
}

/// A mentor as if it were the agent's own.
fn shared<S: Serializer>(mentor: &Arc<MentorView>, serializer: S) -> Result<S::Ok, S::Error> {
    MentorView::serialize(mentor, serializer)
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PeriodicTask)]
struct TaskView {
    id: i64,
    name: String,
    crontab: CrontabView,
    one_off: bool,
    start_time: Option<String>,
    enabled: bool,
    end_time: Option<String>,
    jitter_seconds: i32,
    overlap_policy: String,
    catch_up: String,
    catch_up_window_seconds: Option<u64>,
    max_attempts: i32,
    timeout_seconds: i32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Crontab)]
struct CrontabView {
    minute: String,
    hour: String,
    day_of_week: String,
    day_of_month: String,
    month_of_year: String,
    timezone: Option<String>,
}

impl AgentView {
    /// The answer to a read: with the whole mentor, which others of its page may show too, without the secret.
    pub(super) fn of_read(row: ShownAgent, mentor: Arc<MentorView>, activity: Option<&ActivityRow>) -> Self {
        Self::new(row, MentorField::Whole(mentor), String::new(), activity)
    }

    /// The answer to a write: mentor and secret as that write had them.
    pub(super) fn of_write(
        row: AgentRow,
        mentor: &MentorRow,
        reference: Option<MentorReference>,
        secret: &SecretChange,
        activity: Option<&ActivityRow>,
    ) -> Self {
        let mentor = match reference {
            Some(MentorReference::Id(_)) => MentorField::Id(mentor.id),
            Some(MentorReference::UniqueId(_)) | None => MentorField::UniqueId(mentor.unique_id.into()),
        };
        let secret = match secret {
            SecretChange::Set(secret) => secret.expose().clone(),
            SecretChange::Keep | SecretChange::Remove => String::new(),
        };
        Self::new(row.into(), mentor, secret, activity)
    }

    /// With what the agent that each of these follows put out last, as it is waited for: what it would be asked with.
    pub(super) fn with_previous_outputs(conn: &mut DbConnection, views: &mut [Self]) -> QueryResult<()> {
        for ended in Ended::ALL {
            let awaits = |view: &Self| Ended::awaited_as(&view.previous_agent_status) == ended;
            let mut previous: Vec<i64> =
                views.iter().filter(|view| awaits(view)).filter_map(|view| view.previous_agent).collect();
            previous.sort_unstable();
            previous.dedup();
            let outputs = log_texts::newest_outputs(conn, &previous, ended, PREVIOUS_OUTPUT_CHARS_MAX)?;
            for view in views.iter_mut().filter(|view| awaits(view)) {
                let output = view.previous_agent.and_then(|id| outputs.get(&id));
                view.previous_agent_output = output.cloned().unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Which agent it is.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Whose agent it is.
    pub(super) fn organisation(&self) -> &str {
        &self.platform_key
    }

    fn new(row: ShownAgent, mentor: MentorField, callback_secret: String, activity: Option<&ActivityRow>) -> Self {
        let last_status = activity.and_then(|activity| activity.latest_status.as_deref()).unwrap_or(NEVER_RAN);
        Self {
            id: row.id,
            mentor,
            task: TaskView::of(&row),
            title: row.title,
            username: row.username,
            description: row.description,
            prompt: row.prompt,
            created_at: render(row.created_at.into()),
            modified_at: render(row.modified_at.into()),
            enabled: row.enabled,
            one_off: row.one_off,
            platform_key: row.organisation,
            pathway: row.pathway,
            callback_url: row.callback_url,
            callback_secret,
            parent_session_id: row.parent_session_id,
            parent_mentor_id: row.parent_mentor_id,
            previous_agent: row.previous_agent_id,
            previous_agent_status: row.previous_agent_status,
            previous_agent_output: String::new(),
            callback_on: [("runs", row.callback_on_runs), ("skipped", row.callback_on_skipped)]
                .into_iter()
                .filter_map(|(word, on)| on.then_some(word))
                .collect(),
            callback_options: CallbackOptionsView {
                encrypt: row.callback_encrypt,
                signature_only_hub: row.callback_signature_only_hub,
            },
            next_fire_time: activity.and_then(|activity| activity.next_fire_time).map(|time| render(time.into())),
            last_status: last_status.to_owned(),
            paused: row.paused,
            paused_note: row.paused_note,
            callback_secret_set: row.callback_secret_set,
            callback_state: activity.map_or_else(|| "ok".to_owned(), |activity| activity.callback_state.clone()),
            failing_since: activity.and_then(|activity| activity.failing_since).map(|time| render(time.into())),
        }
    }
}

impl TaskView {
    fn of(row: &ShownAgent) -> Self {
        Self {
            id: row.id,
            name: format!("{}: {}", row.id, row.title).chars().take(TASK_NAME_CHARS_MAX).collect(),
            crontab: CrontabView {
                minute: row.minute.clone(),
                hour: row.hour.clone(),
                day_of_week: row.day_of_week.clone(),
                day_of_month: row.day_of_month.clone(),
                month_of_year: row.month_of_year.clone(),
                timezone: row.timezone.clone(),
            },
            one_off: row.one_off,
            start_time: row.start_time.map(|time| render(time.into())),
            enabled: row.enabled,
            end_time: row.end_time.map(|time| render(time.into())),
            jitter_seconds: row.jitter_seconds,
            overlap_policy: row.overlap_policy.clone(),
            catch_up: row.catch_up.clone(),
            catch_up_window_seconds: policy::catch_up_window(&row.catch_up, row.catch_up_window_seconds)
                .map(|window| window.as_secs()),
            max_attempts: row.max_attempts,
            timeout_seconds: row.timeout_seconds,
        }
    }
}
