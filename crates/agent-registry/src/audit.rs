//! The audit log: who changed what, written in the transaction of the change, so that there is never one without the
//! other. It names the fields that changed and never tells what they hold.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use serde_json::json;
use service_kit::database::DbConnection;

use crate::access::Acting;
use crate::store::agents::AgentRow;
use crate::store::audit_log::{self, AuditRow};

/// Notes that somebody did `action` (`agent.changed`: what it was done to stands before the dot) to `key`.
pub(crate) fn record(
    conn: &mut DbConnection,
    acting: &Acting,
    action: &str,
    key: &str,
    fields: &[&str],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let row = AuditRow {
        id: 0,
        organisation: acting.organisation.clone(),
        at: now.into(),
        username: acting.caller.clone(),
        acting_as: acting.username.clone(),
        credential: acting.credential.as_str().to_owned(),
        action: action.to_owned(),
        subject: action.split('.').next().unwrap_or_default().to_owned(),
        subject_key: key.to_owned(),
        fields: json!(fields).into(),
    };
    audit_log::insert(conn, &row)
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
    } but not {
        id, organisation, username, last_editor, search_text, created_at, modified_at, timing_version
    })
}
