//! The audit log: who changed what, written in the transaction of the change, so that there is never one without the
//! other. It names the fields that changed and never tells what they hold.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use serde_json::json;
use service_kit::database::DbConnection;

use crate::access::Acting;
use crate::store::agents::AgentRow;
use crate::store::audit_log::{self, AuditRow};
use crate::store::mentors::MentorRow;

/// The credential of what Carillon does itself.
const OWN: &str = "carillon";

/// Notes that somebody did `action` (`agent.changed`: what it was done to stands before the dot) to `key`.
pub(crate) fn record(
    conn: &mut DbConnection,
    acting: &Acting,
    action: &str,
    key: &str,
    fields: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    record_by(conn, Author::of(acting), action, key, fields, now)
}

/// Notes that somebody did `action` to each of these ids.
pub(crate) fn record_each<'a>(
    conn: &mut DbConnection,
    done: impl Iterator<Item = (&'a Acting, i64)>,
    action: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let row = |(acting, id): (&Acting, i64)| Author::of(acting).row(action, &id.to_string(), &[], now);
    audit_log::insert(conn, done.map(row).collect())
}

/// Who changed something of which organisation, and what they showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) organisation: &'a str,
    pub(crate) username: &'a str,
    pub(crate) acting_as: &'a str,
    pub(crate) credential: &'a str,
}

impl<'a> Author<'a> {
    fn of(acting: &'a Acting) -> Self {
        Self {
            organisation: &acting.organisation,
            username: &acting.caller,
            acting_as: &acting.username,
            credential: acting.credential.as_str(),
        }
    }

    fn row(self, action: &str, key: &str, fields: &[&str], now: DateTime<Utc>) -> AuditRow {
        AuditRow {
            id: 0,
            organisation: self.organisation.to_owned(),
            at: now.into(),
            username: self.username.to_owned(),
            acting_as: self.acting_as.to_owned(),
            credential: self.credential.to_owned(),
            action: action.to_owned(),
            subject: action.split('.').next().unwrap_or_default().to_owned(),
            subject_key: key.to_owned(),
            fields: json!(fields).into(),
        }
    }
}

/// The same of a change that nobody asked for by the API.
pub(crate) fn record_by(
    conn: &mut DbConnection,
    author: Author<'_>,
    action: &str,
    key: &str,
    fields: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    audit_log::insert(conn, vec![author.row(action, key, fields, now)])
}

/// Notes what Carillon did itself: nobody asked for it.
pub(crate) fn record_own(
    conn: &mut DbConnection,
    organisation: &str,
    action: &str,
    key: &str,
    fields: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let nobody = Author { organisation, username: "", acting_as: "", credential: OWN };
    record_by(conn, nobody, action, key, fields, now)
}

/// The names of the fields in which `after` differs from `before`, as the API calls them. Every column stands either
/// among them or, after `but not`, among those that nobody edits: with one forgotten it does not compile.
macro_rules! changed {
    ($before:expr, $after:expr, $row:ident { $($field:ident => $name:literal),* $(,)? } but not { $($other:ident),* }) => {{
        let (before, after) = ($before, $after);
        let $row { $($field: _,)* $($other: _,)* } = before;
        let mut names: Vec<&'static str> = Vec::new();
        $(if before.$field != after.$field && !names.contains(&$name) { names.push($name); })*
        names
    }};
}
pub(crate) use changed;

/// Which fields of an agent an edit changed.
pub(crate) fn changed_fields(before: &AgentRow, after: &AgentRow) -> Vec<&'static str> {
    changed!(before, after, AgentRow {
        mentor_id => "mentor",
        title => "title",
        description => "description",
        prompt => "prompt",
        minute => "task.crontab.minute",
        hour => "task.crontab.hour",
        day_of_week => "task.crontab.day_of_week",
        day_of_month => "task.crontab.day_of_month",
        month_of_year => "task.crontab.month_of_year",
        timezone => "task.crontab.timezone",
        one_off => "task.one_off",
        start_time => "task.start_time",
        enabled => "task.enabled",
        pathway => "pathway",
        callback_url => "callback_url",
        sealed_callback_secret => "callback_secret",
        parent_session_id => "parent_session_id",
        parent_mentor_id => "parent_mentor_id",
        previous_agent_id => "previous_agent",
        previous_agent_status => "previous_agent_status",
        end_time => "task.end_time",
        jitter_seconds => "task.jitter_seconds",
        overlap_policy => "task.overlap_policy",
        catch_up => "task.catch_up",
        catch_up_window_seconds => "task.catch_up_window_seconds",
        max_attempts => "task.max_attempts",
        timeout_seconds => "task.timeout_seconds",
        callback_on_runs => "callback_on",
        callback_on_skipped => "callback_on",
        callback_encrypt => "callback_options.encrypt",
        callback_signature_only_hub => "callback_options.signature_only_hub",
        paused => "paused",
        paused_note => "paused_note",
    } but not {
        id, organisation, username, last_editor, search_text, created_at, modified_at, timing_version,
        sealed_previous_secret, previous_secret_until, resumed_with
    })
}

/// Which fields of a mentor an edit changed.
pub(crate) fn changed_mentor_fields(before: &MentorRow, after: &MentorRow) -> Vec<&'static str> {
    changed!(before, after, MentorRow {
        name => "name",
        slug => "slug",
        display_name => "display_name",
        description => "description",
        system_prompt => "system_prompt",
        llm_provider => "llm_provider",
        llm_name => "llm_name",
        llm_temperature => "llm_temperature",
        metadata => "metadata",
        provider => "provider",
        sealed_api_key => "provider.api_key",
        service_groups => "service_groups",
    } but not { id, unique_id, organisation, created_by, created_at, updated_at, deleted_at })
}
