//! The run log: what the dispatcher said of each run, in the furthest state that arrived.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};
use diesel::upsert::excluded;
use model::run::{RunRecord, RunState};
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schema::{log_bodies, logs};
use super::{read_word, upsert_each};

#[diesel::declare_sql_function]
extern "SQL" {
    fn substr(text: Text, from: Integer, count: Integer) -> Text;
}

/// A log without its texts.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = logs, treat_none_as_default_value = false)]
pub(crate) struct LogRow {
    pub(crate) id: i64,
    pub(crate) organisation: String,
    pub(crate) agent_id: i64,
    pub(crate) state: String,
    pub(crate) made_by: String,
    pub(crate) fire_time: Timestamp,
    pub(crate) nominal_time: Timestamp,
    pub(crate) requested_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) sequence: i64,
    pub(crate) run_attempt: i32,
    pub(crate) reason: Option<String>,
    pub(crate) prompt_tokens: i64,
    pub(crate) completion_tokens: i64,
    pub(crate) session_id: String,
}

/// The texts of a log.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = log_bodies, treat_none_as_default_value = false)]
pub(crate) struct LogBodyRow {
    pub(crate) log_id: i64,
    pub(crate) prompt: String,
    pub(crate) output: String,
    pub(crate) content: String,
}

/// A log as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Log {
    pub(crate) row: LogRow,
    pub(crate) body: LogBodyRow,
}

impl Log {
    /// The log of a run, as the dispatcher sees it.
    pub(crate) fn of(record: RunRecord) -> Self {
        let RunRecord { run, state, prompt, requested_at, started_at, ended_at, result, .. } = record;
        let result = result.unwrap_or_default();
        let row = LogRow {
            id: run.id.0,
            organisation: run.organisation.0,
            agent_id: run.agent_id.0,
            state: state.as_str().to_owned(),
            made_by: run.trigger.as_str().to_owned(),
            fire_time: run.fire_time.into(),
            nominal_time: run.nominal_time.into(),
            requested_at: requested_at.into(),
            started_at: started_at.map(Timestamp::from),
            ended_at: ended_at.map(Timestamp::from),
            sequence: run.sequence,
            run_attempt: i32::try_from(run.run_attempt).unwrap_or(i32::MAX),
            reason: result.reason.map(|reason| reason.as_str().to_owned()),
            prompt_tokens: result.usage.prompt_tokens,
            completion_tokens: result.usage.completion_tokens,
            session_id: result.session_id,
        };
        let body = LogBodyRow { log_id: run.id.0, prompt, output: result.output, content: result.log };
        // Neither database holds NUL in text.
        Self {
            row,
            body: LogBodyRow {
                prompt: printable(body.prompt),
                output: printable(body.output),
                content: printable(body.content),
                ..body
            },
        }
    }

    /// How far the run has come.
    pub(crate) fn state(&self) -> QueryResult<RunState> {
        read_word(&self.row.state)
    }
}

/// PostgreSQL refuses NUL in text, and a provider may answer with it.
fn printable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Stores logs, each at most once. A final state absorbs, and a lower state never takes the place of a higher, so the
/// same or an older record changes nothing.
pub(crate) fn upsert(conn: &mut DbConnection, batch: &[Log]) -> QueryResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let rows: Vec<&LogRow> = batch.iter().map(|log| &log.row).collect();
    upsert_rows(conn, rows)?;
    upsert_bodies(conn, batch)
}

fn upsert_rows(conn: &mut DbConnection, rows: Vec<&LogRow>) -> QueryResult<()> {
    use diesel::query_dsl::methods::FilterDsl;

    upsert_each!(conn, rows, c, values => diesel::insert_into(logs::table)
        .values(values)
        .on_conflict(logs::id)
        .do_update()
        .set((
            logs::state.eq(excluded(logs::state)),
            logs::started_at.eq(excluded(logs::started_at)),
            logs::ended_at.eq(excluded(logs::ended_at)),
            logs::run_attempt.eq(excluded(logs::run_attempt)),
            logs::reason.eq(excluded(logs::reason)),
            logs::prompt_tokens.eq(excluded(logs::prompt_tokens)),
            logs::completion_tokens.eq(excluded(logs::completion_tokens)),
            logs::session_id.eq(excluded(logs::session_id)),
        ))
        .filter(
            logs::state
                .eq(RunState::Pending.as_str())
                .or(logs::state.eq(RunState::Running.as_str()).and(excluded(logs::state).ne(RunState::Pending.as_str()))),
        )
        .execute(c))
}

/// Of an ended run the texts are final, and the same whenever they come; before that there is only the prompt.
fn upsert_bodies(conn: &mut DbConnection, batch: &[Log]) -> QueryResult<()> {
    let (mut ended, mut begun) = (Vec::new(), Vec::new());
    for log in batch {
        if log.state()?.is_final() { ended.push(&log.body) } else { begun.push(&log.body) }
    }
    if !begun.is_empty() {
        per_backend!(conn, c => diesel::insert_into(log_bodies::table)
            .values(begun)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    if !ended.is_empty() {
        per_backend!(conn, c => diesel::insert_into(log_bodies::table)
            .values(ended)
            .on_conflict(log_bodies::log_id)
            .do_update()
            .set((
                log_bodies::prompt.eq(excluded(log_bodies::prompt)),
                log_bodies::output.eq(excluded(log_bodies::output)),
                log_bodies::content.eq(excluded(log_bodies::content)),
            ))
            .execute(c))?;
    }
    Ok(())
}

/// The states of these runs as stored, by run.
pub(crate) fn states(conn: &mut DbConnection, ids: Vec<i64>) -> QueryResult<HashMap<i64, RunState>> {
    let rows: Vec<(i64, String)> =
        logs::table.filter(logs::id.eq_any(ids)).select((logs::id, logs::state)).load(conn)?;
    rows.into_iter().map(|(id, state)| Ok((id, read_word(&state)?))).collect()
}

/// One log, whoever's it is.
pub(crate) fn find(conn: &mut DbConnection, id: i64) -> QueryResult<Option<Log>> {
    let row = logs::table.find(id).select(LogRow::as_select()).first(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    Ok(with_bodies(conn, vec![row])?.pop())
}

/// What the newest ended run of each of these agents put out, by agent: the text of at most `chars_max` characters.
pub(crate) fn newest_outputs(
    conn: &mut DbConnection,
    agent_ids: &[i64],
    chars_max: i32,
) -> QueryResult<HashMap<i64, String>> {
    let ended = [RunState::Success.as_str(), RunState::Error.as_str()];
    let mut outputs = HashMap::with_capacity(agent_ids.len());
    for agent_id in agent_ids {
        // One walk along logs_by_agent each; a page has few followers.
        let newest = logs::table
            .inner_join(log_bodies::table)
            .filter(logs::agent_id.eq(agent_id).and(logs::state.eq_any(ended)))
            .order((logs::requested_at.desc(), logs::id.desc()))
            .select(substr(log_bodies::output, 1, chars_max))
            .first(conn)
            .optional()?;
        outputs.extend(newest.map(|output| (*agent_id, output)));
    }
    Ok(outputs)
}

/// Rows with their texts, in the same order.
pub(crate) fn with_bodies(conn: &mut DbConnection, rows: Vec<LogRow>) -> QueryResult<Vec<Log>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let bodies: Vec<LogBodyRow> =
        log_bodies::table.filter(log_bodies::log_id.eq_any(ids)).select(LogBodyRow::as_select()).load(conn)?;
    let mut bodies: HashMap<i64, LogBodyRow> = bodies.into_iter().map(|body| (body.log_id, body)).collect();
    let empty = |log_id| LogBodyRow { log_id, prompt: String::new(), output: String::new(), content: String::new() };
    let with_body = |row: LogRow| {
        let body = bodies.remove(&row.id).unwrap_or_else(|| empty(row.id));
        Log { row, body }
    };
    Ok(rows.into_iter().map(with_body).collect())
}

/// Removes up to `limit` logs of an agent. Returns how many.
pub(crate) fn delete_some(conn: &mut DbConnection, agent_id: i64, limit: i64) -> QueryResult<usize> {
    let ids: Vec<i64> = logs::table.filter(logs::agent_id.eq(agent_id)).select(logs::id).limit(limit).load(conn)?;
    delete(conn, &ids)
}

/// Removes up to `limit` logs of the organisation. Returns how many.
pub(crate) fn delete_of(conn: &mut DbConnection, organisation: &str, limit: i64) -> QueryResult<usize> {
    let own = logs::table.filter(logs::organisation.eq(organisation));
    let ids: Vec<i64> = own.select(logs::id).limit(limit).load(conn)?;
    delete(conn, &ids)
}

/// Removes up to `limit` logs of the organisation whose runs were requested before `before` and have ended. Returns how
/// many.
pub(crate) fn delete_old(
    conn: &mut DbConnection,
    organisation: &str,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    let ended = [RunState::Success.as_str(), RunState::Error.as_str()];
    let ids: Vec<i64> = logs::table
        .filter(logs::organisation.eq(organisation))
        .filter(logs::requested_at.lt(Timestamp::from(before)))
        .filter(logs::state.eq_any(ended))
        .order(logs::requested_at)
        .limit(limit)
        .select(logs::id)
        .load(conn)?;
    delete(conn, &ids)
}

fn delete(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<usize> {
    diesel::delete(log_bodies::table.filter(log_bodies::log_id.eq_any(ids))).execute(conn)?;
    diesel::delete(logs::table.filter(logs::id.eq_any(ids))).execute(conn)
}
