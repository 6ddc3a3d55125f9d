//! Periodic agents as they are shown: without what only edits and searches need, which may be most of a row.

use std::collections::HashMap;

use diesel::dsl;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use service_kit::database::{DbConnection, Timestamp};

use super::activity::ActivityRow;
use super::agents::AgentRow;
use super::log_texts::{Ended, PIECE_BYTES_MAX};
use super::mentors::MentorRow;
use super::schema::{agent_activity, agents, mentors};

/// What is shown of a periodic agent.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = agents)]
pub(crate) struct ShownAgent {
    pub(crate) id: i64,
    pub(crate) organisation: String,
    pub(crate) mentor_id: i64,
    pub(crate) title: String,
    pub(crate) username: String,
    pub(crate) description: String,
    pub(crate) prompt: String,
    pub(crate) minute: String,
    pub(crate) hour: String,
    pub(crate) day_of_month: String,
    pub(crate) month_of_year: String,
    pub(crate) day_of_week: String,
    pub(crate) timezone: Option<String>,
    pub(crate) one_off: bool,
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) enabled: bool,
    pub(crate) pathway: String,
    pub(crate) callback_url: String,
    #[diesel(select_expression = agents::sealed_callback_secret.is_not_null())]
    pub(crate) callback_secret_set: bool,
    pub(crate) parent_session_id: String,
    pub(crate) parent_mentor_id: Option<i64>,
    pub(crate) previous_agent_id: Option<i64>,
    pub(crate) previous_agent_status: String,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    pub(crate) end_time: Option<Timestamp>,
    pub(crate) jitter_seconds: i32,
    pub(crate) overlap_policy: String,
    pub(crate) catch_up: String,
    pub(crate) catch_up_window_seconds: Option<i32>,
    pub(crate) max_attempts: i32,
    pub(crate) timeout_seconds: i32,
    pub(crate) callback_on_runs: bool,
    pub(crate) callback_on_skipped: bool,
    pub(crate) callback_encrypt: bool,
    pub(crate) callback_signature_only_hub: bool,
    pub(crate) paused: bool,
    pub(crate) paused_note: String,
}

impl From<AgentRow> for ShownAgent {
    fn from(row: AgentRow) -> Self {
        Self {
            id: row.id,
            organisation: row.organisation,
            mentor_id: row.mentor_id,
            title: row.title,
            username: row.username,
            description: row.description,
            prompt: row.prompt,
            minute: row.minute,
            hour: row.hour,
            day_of_month: row.day_of_month,
            month_of_year: row.month_of_year,
            day_of_week: row.day_of_week,
            timezone: row.timezone,
            one_off: row.one_off,
            start_time: row.start_time,
            enabled: row.enabled,
            pathway: row.pathway,
            callback_url: row.callback_url,
            callback_secret_set: row.sealed_callback_secret.is_some(),
            parent_session_id: row.parent_session_id,
            parent_mentor_id: row.parent_mentor_id,
            previous_agent_id: row.previous_agent_id,
            previous_agent_status: row.previous_agent_status,
            created_at: row.created_at,
            modified_at: row.modified_at,
            end_time: row.end_time,
            jitter_seconds: row.jitter_seconds,
            overlap_policy: row.overlap_policy,
            catch_up: row.catch_up,
            catch_up_window_seconds: row.catch_up_window_seconds,
            max_attempts: row.max_attempts,
            timeout_seconds: row.timeout_seconds,
            callback_on_runs: row.callback_on_runs,
            callback_on_skipped: row.callback_on_skipped,
            callback_encrypt: row.callback_encrypt,
            callback_signature_only_hub: row.callback_signature_only_hub,
            paused: row.paused,
            paused_note: row.paused_note,
        }
    }
}

/// One agent of the organisation with its mentor and its activity, by one way to the database.
pub(crate) fn find(
    conn: &mut DbConnection,
    organisation: &str,
    id: i64,
) -> QueryResult<Option<(ShownAgent, MentorRow, Option<ActivityRow>)>> {
    agents::table
        .inner_join(mentors::table)
        .left_join(agent_activity::table)
        .filter(agents::id.eq(id).and(agents::organisation.eq(organisation)))
        .select((ShownAgent::as_select(), MentorRow::as_select(), Option::<ActivityRow>::as_select()))
        .first(conn)
        .optional()
}

/// Those of these agents that exist, by id.
pub(crate) fn by_ids(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashMap<i64, ShownAgent>> {
    let rows: Vec<ShownAgent> =
        agents::table.filter(agents::id.eq_any(ids.to_vec())).select(ShownAgent::as_select()).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// How many bytes of texts each of these agents is shown with, by agent: its own, those of its mentor, and what the
/// agent that it follows put out last, as it is waited for.
pub(crate) fn text_bytes(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashMap<i64, i64>> {
    // In one statement; no database reads a column of text to tell its length.
    let bytes = dsl::sql::<BigInt>(&format!(
        "CAST(octet_length(agents.description) + octet_length(agents.prompt) + mentors.text_bytes + COALESCE((
            SELECT CASE WHEN output_pieces > 0 THEN {PIECE_BYTES_MAX} ELSE octet_length(output) END
            FROM log_bodies WHERE log_id = {}
        ), 0) AS BIGINT)",
        newest_awaited(),
    ));
    let sizes = agents::table.inner_join(mentors::table).filter(agents::id.eq_any(ids.to_vec()));
    Ok(sizes.select((agents::id, bytes)).load(conn)?.into_iter().collect())
}

/// The log whose output an agent is shown with. Each kind of end has a walk of its own, so that it has its own index.
fn newest_awaited() -> String {
    let walk = |ended: Ended| {
        let condition = ended.condition();
        let newest = format!(
            "(SELECT logs.id FROM logs WHERE logs.agent_id = agents.previous_agent_id AND {condition}
                ORDER BY logs.requested_at DESC, logs.id DESC LIMIT 1)"
        );
        match ended.status() {
            Some(status) => format!("WHEN '{status}' THEN {newest}"),
            None => format!("ELSE {newest}"),
        }
    };
    // The one without a status is the last.
    format!("CASE agents.previous_agent_status {} END", Ended::ALL.map(walk).join(" "))
}
