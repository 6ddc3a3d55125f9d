//! The texts of logs: the beginning of each in `log_bodies`, which nearly always is all of it, and what is beyond in
//! `log_pieces`, so that a text of megabytes is read piece by piece.
//!
//! Written in the transaction of its log, so that a log, the number of its pieces and the pieces are seen together.

use std::collections::HashMap;

use diesel::dsl;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::upsert::excluded;
use model::run::{RunRecord, RunState};
use service_kit::database::DbConnection;
use service_kit::per_backend;

use super::logs::{Log, LogRow};
use super::schema::{agents, log_bodies, log_pieces, logs};

/// Of each text so much stands in `log_bodies`: a page of a hundred logs holds three hundred of these.
const BEGINNING_BYTES_MAX: usize = 32 * 1024;
/// The largest piece: what one reader of a log holds at a time.
pub(crate) const PIECE_BYTES_MAX: usize = 256 * 1024;

/// One of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogText {
    Content,
    Output,
    Prompt,
}

impl LogText {
    fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Output => "output",
            Self::Prompt => "prompt",
        }
    }
}

/// The texts of a log: each whole, or its beginning where there are pieces of it.
#[derive(Debug, Clone, Default, PartialEq, Queryable, Selectable)]
#[diesel(table_name = log_bodies)]
pub(crate) struct LogBodyRow {
    pub(crate) log_id: i64,
    pub(crate) prompt: String,
    pub(crate) output: String,
    pub(crate) content: String,
    prompt_pieces: i32,
    output_pieces: i32,
    content_pieces: i32,
}

impl LogBodyRow {
    /// All of the texts. Neither database holds NUL in them.
    pub(crate) fn whole(log_id: i64, prompt: String, output: String, content: String) -> Self {
        let [prompt, output, content] = [prompt, output, content].map(printable);
        Self { log_id, prompt, output, content, ..Self::default() }
    }

    /// Whether nothing of them stands elsewhere.
    pub(crate) fn is_whole(&self) -> bool {
        self.prompt_pieces + self.output_pieces + self.content_pieces == 0
    }

    /// How many bytes of them are here.
    pub(crate) fn bytes(&self) -> usize {
        self.prompt.len() + self.output.len() + self.content.len()
    }

    /// What is here of a text, and how many pieces follow it.
    pub(crate) fn take(&mut self, text: LogText) -> (String, i32) {
        let (beginning, pieces) = match text {
            LogText::Content => (&mut self.content, self.content_pieces),
            LogText::Output => (&mut self.output, self.output_pieces),
            LogText::Prompt => (&mut self.prompt, self.prompt_pieces),
        };
        (std::mem::take(beginning), pieces)
    }
}

/// PostgreSQL refuses NUL in text, and a provider may answer with it.
fn printable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Whether a run has a text of which there will be pieces.
pub(crate) fn is_large(record: &RunRecord) -> bool {
    let result = record.result.as_ref();
    let texts = [Some(&record.prompt), result.map(|result| &result.output), result.map(|result| &result.log)];
    texts.into_iter().flatten().any(|text| text.len() > BEGINNING_BYTES_MAX)
}

#[derive(Insertable)]
#[diesel(table_name = log_bodies, treat_none_as_default_value = false)]
struct NewBody<'a> {
    log_id: i64,
    prompt: &'a str,
    output: &'a str,
    content: &'a str,
    prompt_pieces: i32,
    output_pieces: i32,
    content_pieces: i32,
}

#[derive(Insertable)]
#[diesel(table_name = log_pieces, treat_none_as_default_value = false)]
struct NewPiece<'a> {
    log_id: i64,
    field: &'static str,
    sequence: i32,
    text: &'a str,
}

/// Splits whole texts into their beginnings and pieces.
fn split(body: &LogBodyRow) -> (NewBody<'_>, Vec<NewPiece<'_>>) {
    let log_id = body.log_id;
    let mut pieces = Vec::new();
    let mut beginning_of = |field: LogText, text| {
        let (beginning, mut rest) = cut(text, BEGINNING_BYTES_MAX);
        let mut sequence = 0;
        while !rest.is_empty() {
            let (text, beyond) = cut(rest, PIECE_BYTES_MAX);
            sequence += 1;
            pieces.push(NewPiece { log_id, field: field.as_str(), sequence, text });
            rest = beyond;
        }
        (beginning, sequence)
    };
    let (prompt, prompt_pieces) = beginning_of(LogText::Prompt, body.prompt.as_str());
    let (output, output_pieces) = beginning_of(LogText::Output, body.output.as_str());
    let (content, content_pieces) = beginning_of(LogText::Content, body.content.as_str());
    (NewBody { log_id, prompt, output, content, prompt_pieces, output_pieces, content_pieces }, pieces)
}

/// A text in two, between characters: the first has at most so many bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> (&str, &str) {
    text.split_at(text.floor_char_boundary(bytes_max))
}

/// Keeps the texts of runs that have not ended: the prompt, which never changes. Those that are there stay.
pub(super) fn keep_begun(conn: &mut DbConnection, bodies: &[&LogBodyRow]) -> QueryResult<()> {
    let (rows, pieces): (Vec<_>, Vec<_>) = bodies.iter().map(|body| split(body)).unzip();
    if rows.is_empty() {
        return Ok(());
    }
    per_backend!(conn, c => diesel::insert_into(log_bodies::table)
        .values(rows)
        .on_conflict_do_nothing()
        .execute(c))?;
    keep_pieces(conn, pieces)
}

/// Keeps the texts of ended runs: they are final, and the same whenever they come.
pub(super) fn keep_ended(conn: &mut DbConnection, bodies: &[&LogBodyRow]) -> QueryResult<()> {
    let (rows, pieces): (Vec<_>, Vec<_>) = bodies.iter().map(|body| split(body)).unzip();
    if rows.is_empty() {
        return Ok(());
    }
    per_backend!(conn, c => diesel::insert_into(log_bodies::table)
        .values(rows)
        .on_conflict(log_bodies::log_id)
        .do_update()
        .set((
            log_bodies::prompt.eq(excluded(log_bodies::prompt)),
            log_bodies::output.eq(excluded(log_bodies::output)),
            log_bodies::content.eq(excluded(log_bodies::content)),
            log_bodies::prompt_pieces.eq(excluded(log_bodies::prompt_pieces)),
            log_bodies::output_pieces.eq(excluded(log_bodies::output_pieces)),
            log_bodies::content_pieces.eq(excluded(log_bodies::content_pieces)),
        ))
        .execute(c))?;
    keep_pieces(conn, pieces)
}

/// The pieces of each log at once: all together may be more than a statement takes.
fn keep_pieces(conn: &mut DbConnection, of_logs: Vec<Vec<NewPiece<'_>>>) -> QueryResult<()> {
    for pieces in of_logs.into_iter().filter(|pieces| !pieces.is_empty()) {
        per_backend!(conn, c => diesel::insert_into(log_pieces::table)
            .values(pieces)
            .on_conflict((log_pieces::log_id, log_pieces::field, log_pieces::sequence))
            .do_update()
            .set(log_pieces::text.eq(excluded(log_pieces::text)))
            .execute(c))?;
    }
    Ok(())
}

/// Rows with the beginnings of their texts, in the same order.
pub(crate) fn beginnings(conn: &mut DbConnection, rows: Vec<LogRow>) -> QueryResult<Vec<Log>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let bodies: Vec<LogBodyRow> =
        log_bodies::table.filter(log_bodies::log_id.eq_any(ids)).select(LogBodyRow::as_select()).load(conn)?;
    let mut bodies: HashMap<i64, LogBodyRow> = bodies.into_iter().map(|body| (body.log_id, body)).collect();
    let with_body = |row: LogRow| {
        let body = bodies.remove(&row.id).unwrap_or_default();
        Log { body: LogBodyRow { log_id: row.id, ..body }, row }
    };
    Ok(rows.into_iter().map(with_body).collect())
}

/// A piece of a text, counted from 1.
pub(crate) fn piece(conn: &mut DbConnection, log_id: i64, text: LogText, sequence: i32) -> QueryResult<String> {
    log_pieces::table.find((log_id, text.as_str(), sequence)).select(log_pieces::text).first(conn)
}

/// The ended runs of an agent that matter to one who follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    Successfully,
    WithError,
    Anyhow,
}

impl Ended {
    pub(crate) const ALL: [Self; 3] = [Self::Successfully, Self::WithError, Self::Anyhow];

    /// Those by whose output a follower is asked that waits for this status.
    pub(crate) fn awaited_as(status: &str) -> Self {
        Self::ALL.into_iter().find(|ended| ended.status() == Some(status)).unwrap_or(Self::Anyhow)
    }

    /// The word by which it is awaited; none: by any other.
    pub(crate) fn status(self) -> Option<&'static str> {
        match self {
            Self::Successfully => Some(RunState::Success.as_str()),
            Self::WithError => Some(RunState::Error.as_str()),
            Self::Anyhow => None,
        }
    }

    /// As the index of those that failed says it.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::Successfully => "logs.state = 'success'",
            Self::WithError => "logs.state = 'error'",
            Self::Anyhow => "logs.state IN ('success', 'error')",
        }
    }
}

/// What the newest run that ended so of each of these agents put out, by agent: the text of at most `chars_max`
/// characters, which are no more than its beginning and a piece have.
pub(crate) fn newest_outputs(
    conn: &mut DbConnection,
    agent_ids: &[i64],
    ended: Ended,
    chars_max: usize,
) -> QueryResult<HashMap<i64, String>> {
    if agent_ids.is_empty() {
        return Ok(HashMap::new());
    }
    // One walk each, along logs_by_agent, which has the state, or the index of those that failed.
    let newest = logs::table
        .filter(logs::agent_id.eq(agents::id))
        .filter(dsl::sql::<Bool>(ended.condition()))
        .order((logs::requested_at.desc(), logs::id.desc()))
        .select(logs::id)
        .single_value();
    let newest: Vec<(i64, Option<i64>)> =
        agents::table.filter(agents::id.eq_any(agent_ids.to_vec())).select((agents::id, newest)).load(conn)?;
    let agent_of: HashMap<i64, i64> = newest.into_iter().filter_map(|(agent, log)| Some((log?, agent))).collect();
    let log_ids: Vec<i64> = agent_of.keys().copied().collect();
    let first_piece = log_pieces::log_id
        .eq(log_bodies::log_id)
        .and(log_pieces::field.eq(LogText::Output.as_str()))
        .and(log_pieces::sequence.eq(1).and(log_bodies::output_pieces.gt(0)));
    let outputs: Vec<(i64, String, Option<String>)> = log_bodies::table
        .left_join(log_pieces::table.on(first_piece))
        .filter(log_bodies::log_id.eq_any(log_ids))
        .select((log_bodies::log_id, log_bodies::output, log_pieces::text.nullable()))
        .load(conn)?;
    let of_agent = |(log_id, mut output, piece): (i64, String, Option<String>)| {
        output += piece.as_deref().unwrap_or_default();
        if let Some((end, _)) = output.char_indices().nth(chars_max) {
            output.truncate(end);
        }
        Some((*agent_of.get(&log_id)?, output))
    };
    Ok(outputs.into_iter().filter_map(of_agent).collect())
}

/// Removes the texts of these logs.
pub(super) fn delete(conn: &mut DbConnection, log_ids: &[i64]) -> QueryResult<()> {
    diesel::delete(log_pieces::table.filter(log_pieces::log_id.eq_any(log_ids))).execute(conn)?;
    diesel::delete(log_bodies::table.filter(log_bodies::log_id.eq_any(log_ids))).execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_text_is_its_beginning_and_its_pieces_none_of_them_too_large(
            unit in "[a\"\n\u{e9}\u{20ac}\u{1f600}]{1,7}", times in 0_usize..60_000,
        ) {
            let text = unit.repeat(times);
            let body = LogBodyRow::whole(1, String::new(), text.clone(), String::new());
            let (row, pieces) = split(&body);
            prop_assert!(row.output.len() <= BEGINNING_BYTES_MAX);
            prop_assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES_MAX).contains(&piece.text.len())));
            prop_assert_eq!(pieces.len(), usize::try_from(row.output_pieces).unwrap());
            let pieces: String = pieces.iter().map(|piece| piece.text).collect();
            prop_assert!(row.output.to_owned() + &pieces == text);
        }
    }
}
