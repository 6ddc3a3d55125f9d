//! The run log: what the dispatcher said of each run, in the furthest state that arrived.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use model::run::{RunRecord, RunState};
use service_kit::database::{DbConnection, Timestamp};

use super::log_texts::{self, LogBodyRow};
use super::schema::logs;
use super::{read_word, upsert_each};

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

/// A log with its texts, or with their beginnings.
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
        Self { body: LogBodyRow::whole(row.id, prompt, result.output, result.log), row }
    }

    /// How far the run has come.
    pub(crate) fn state(&self) -> QueryResult<RunState> {
        read_word(&self.row.state)
    }
}

/// Stores logs, each at most once. A final state absorbs, and a lower state never takes the place of a higher, so the
/// same or an older record changes nothing.
pub(crate) fn upsert(conn: &mut DbConnection, batch: &[Log]) -> QueryResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let changed = upsert_rows(conn, batch.iter().map(|log| &log.row).collect())?;
    let (mut ended, mut begun) = (Vec::new(), Vec::new());
    for log in batch.iter().filter(|log| changed.contains(&log.row.id)) {
        if log.state()?.is_final() { ended.push(&log.body) } else { begun.push(&log.body) }
    }
    log_texts::keep_begun(conn, &begun)?;
    log_texts::keep_ended(conn, &ended)
}

/// Returns which of them are stored as they are here: a verdict comes again often, and changes nothing.
fn upsert_rows(conn: &mut DbConnection, rows: Vec<&LogRow>) -> QueryResult<HashSet<i64>> {
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
        .returning(logs::id)
        .load::<i64>(c))
}

/// One log, whoever's it is, with the beginnings of its texts.
pub(crate) fn find(conn: &mut DbConnection, id: i64) -> QueryResult<Option<Log>> {
    let row = logs::table.find(id).select(LogRow::as_select()).first(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    Ok(log_texts::beginnings(conn, vec![row])?.pop())
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
    log_texts::delete(conn, ids)?;
    diesel::delete(logs::table.filter(logs::id.eq_any(ids))).execute(conn)
}
