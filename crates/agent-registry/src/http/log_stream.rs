//! Logs on their way out, whatever their size: read piece by piece, and sent as they are read.
//!
//! A reader holds a piece of a text and the part of it that is being sent; only while a piece is read does it hold a
//! connection to the database. So whoever reads slowly, or stops, keeps nobody waiting. The bytes are those of the same
//! log in one go. If a piece is not to be had (the log was swept meanwhile, the database is away), the connection is
//! closed before the end, which every client can tell from a whole answer.

use std::collections::VecDeque;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use futures::stream;
use service_kit::database::{DatabaseError, Db};
use service_kit::error::ApiError;

use super::logs::LogView;
use crate::state::State;
use crate::store::log_texts::{self, LogBodyRow, LogText, PIECE_BYTES_MAX};
use crate::store::logs::Log;

/// So much of a text is made ready to be sent at a time.
const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Where the texts stand in a log without any, in this order. In JSON a quote within a string has a backslash before it,
/// so that nothing else reads like one of these.
const PLACES: [(&str, LogText); 3] = [
    (r#""content":"""#, LogText::Content),
    (r#""agent_output":"""#, LogText::Output),
    (r#""prompt":"""#, LogText::Prompt),
];

/// Whether these logs are too large to be answered in one go.
pub(super) fn is_needed(logs: &[Log]) -> bool {
    let bytes: usize = logs.iter().map(|log| log.body.bytes()).sum();
    bytes > PIECE_BYTES_MAX || !logs.iter().all(|log| log.body.is_whole())
}

/// The answer that shows one log.
pub(super) fn one(state: &State, status: StatusCode, log: Log) -> Result<HttpResponse, ApiError> {
    let mut parts = VecDeque::new();
    add(&mut parts, log)?;
    let mut response = HttpResponse::build(status);
    Ok(send(state, response.content_type(ContentType::json()), parts, in_json))
}

/// The answer that shows a list of logs, between what stands before and behind them.
pub(super) fn list(
    state: &State,
    before: String,
    logs: Vec<Log>,
    behind: &'static str,
) -> Result<HttpResponse, ApiError> {
    let mut parts = VecDeque::from([Part::Markup(before)]);
    for (index, log) in logs.into_iter().enumerate() {
        if index > 0 {
            parts.push_back(Part::Markup(",".to_owned()));
        }
        add(&mut parts, log)?;
    }
    parts.push_back(Part::Markup(behind.to_owned()));
    Ok(send(state, HttpResponse::Ok().content_type(ContentType::json()), parts, in_json))
}

/// The answer that is a log's content, as it is.
pub(super) fn content(state: &State, response: &mut HttpResponseBuilder, mut log: Log) -> HttpResponse {
    let (text, pieces) = log.body.take(LogText::Content);
    if pieces == 0 {
        return response.body(text);
    }
    let parts = [
        Part::Text { text, sent: 0 },
        Part::Pieces { log_id: log.row.id, text: LogText::Content, next: 1, last: pieces },
    ];
    send(state, response, parts.into(), |text| Ok(text.to_owned().into()))
}

/// What is still to be sent.
enum Part {
    /// As it is.
    Markup(String),
    /// A text, from this byte on.
    Text { text: String, sent: usize },
    /// These pieces of a text.
    Pieces { log_id: i64, text: LogText, next: i32, last: i32 },
}

/// Adds a log, in the order of its fields.
fn add(parts: &mut VecDeque<Part>, log: Log) -> Result<(), ApiError> {
    let Log { row, mut body } = log;
    let log_id = row.id;
    let view = LogView::try_from(Log { row, body: LogBodyRow::default() })?;
    let view = serde_json::to_string(&view).map_err(|error| ApiError::internal(&error))?;
    let mut rest = view.as_str();
    for (place, text) in PLACES {
        // Between the quotes.
        let at = rest.find(place).map_or(rest.len(), |at| at + place.len() - 1);
        parts.push_back(Part::Markup(rest[..at].to_owned()));
        rest = &rest[at..];
        let (beginning, pieces) = body.take(text);
        parts.push_back(Part::Text { text: beginning, sent: 0 });
        parts.push_back(Part::Pieces { log_id, text, next: 1, last: pieces });
    }
    parts.push_back(Part::Markup(rest.to_owned()));
    Ok(())
}

/// A part of a JSON string.
fn in_json(text: &str) -> Result<web::Bytes, StreamError> {
    let quoted = web::Bytes::from(serde_json::to_vec(text)?);
    Ok(quoted.slice(1..quoted.len() - 1))
}

/// Why a log ends too early.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("a piece of a log cannot be read")]
    Database(#[from] DatabaseError),
    #[error("a piece of a log cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

type Encode = fn(&str) -> Result<web::Bytes, StreamError>;

fn send(state: &State, response: &mut HttpResponseBuilder, parts: VecDeque<Part>, encode: Encode) -> HttpResponse {
    let outgoing = Outgoing { db: state.db.clone(), parts, encode };
    response.streaming(stream::try_unfold(outgoing, Outgoing::next))
}

struct Outgoing {
    db: Db,
    parts: VecDeque<Part>,
    encode: Encode,
}

impl Outgoing {
    /// What is sent next; none at the end.
    async fn next(mut self) -> Result<Option<(web::Bytes, Self)>, StreamError> {
        while let Some(part) = self.parts.pop_front() {
            let chunk = match part {
                Part::Markup(text) => text.into(),
                Part::Text { text, sent } => self.chunk_of(text, sent)?,
                Part::Pieces { log_id, text, next, last } => {
                    if next <= last {
                        let piece = self
                            .db
                            .read(move |conn| Ok::<_, DatabaseError>(log_texts::piece(conn, log_id, text, next)?));
                        let read = Part::Text { text: piece.await?, sent: 0 };
                        self.parts.push_front(Part::Pieces { log_id, text, next: next + 1, last });
                        self.parts.push_front(read);
                    }
                    continue;
                }
            };
            // An empty chunk would be the end.
            if !chunk.is_empty() {
                return Ok(Some((chunk, self)));
            }
        }
        Ok(None)
    }

    /// The next chunk of a text; the rest of it stays first in line.
    fn chunk_of(&mut self, text: String, sent: usize) -> Result<web::Bytes, StreamError> {
        let (chunk, rest) = log_texts::cut(&text[sent..], CHUNK_BYTES_MAX);
        let (encoded, sent, more) = ((self.encode)(chunk)?, sent + chunk.len(), !rest.is_empty());
        if more {
            self.parts.push_front(Part::Text { text, sent });
        }
        Ok(encoded)
    }
}
