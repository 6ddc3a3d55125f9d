//! Lists whose entries may be large, on their way out: batch by batch, each read when those before it were sent.
//!
//! A page of a hundred entries may have more than a hundred megabytes of texts. Whoever reads it holds the JSON of one
//! batch, and a connection to the database only while a batch is read. The bytes are those of the same page in one go.
//! What is gone by the time of its batch is left out. If a batch is not to be had (the database is away), the connection
//! is closed before the end, which every client can tell from a whole answer.

use std::collections::{HashMap, VecDeque};

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use diesel::QueryResult;
use futures::stream;
use serde::Serialize;
use service_kit::database::{DatabaseError, Db, DbConnection};
use service_kit::error::ApiError;

use super::list::ListError;
use super::page::Page;
use crate::state::State;
use crate::validation::query::Query;

/// So much text is read at once; a page with less is answered in one go. An entry with more is a batch of its own.
const BATCH_BYTES_MAX: i64 = 512 * 1024;
/// So much of a batch is sent at a time.
const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Reads entries as they are shown, in the order of these ids, without those that are gone.
pub(super) type Load<T> = fn(&mut DbConnection, &[i64]) -> QueryResult<Vec<T>>;

/// The entries of a page: the first of them as JSON, the others still to be read.
pub(super) struct Entries<T> {
    first: Vec<u8>,
    left: VecDeque<Vec<i64>>,
    load: Load<T>,
}

impl<T: Serialize + 'static> Entries<T> {
    /// The entries with these ids, in this order, of which each has so many bytes of texts.
    pub(super) fn read(
        conn: &mut DbConnection,
        ids: &[i64],
        text_bytes: &HashMap<i64, i64>,
        load: Load<T>,
    ) -> Result<Self, ListError> {
        let mut left = batches(ids, text_bytes);
        let first = match left.pop_front() {
            Some(ids) => json_of(conn, &ids, load, false)?,
            None => Vec::new(),
        };
        Ok(Self { first, left, load })
    }

    /// The answer that shows them as this page.
    pub(super) fn answer(
        self,
        state: &State,
        request: &HttpRequest,
        query: &Query,
        page: Page,
    ) -> Result<HttpResponse, ApiError> {
        let (before, behind) = page.around(state, request, query).map_err(|error| ApiError::internal(&error))?;
        let mut response = HttpResponse::Ok();
        response.content_type(ContentType::json());
        if self.left.is_empty() {
            return Ok(response.body([before.as_bytes(), &self.first, behind.as_bytes()].concat()));
        }
        let outgoing = Outgoing {
            db: state.db.clone(),
            ready: [before.as_bytes(), &self.first].concat().into(),
            has_begun: !self.first.is_empty(),
            left: self.left,
            load: self.load,
            behind: Some(behind),
        };
        Ok(response.streaming(stream::try_unfold(outgoing, Outgoing::next)))
    }
}

/// Cuts a page into batches. What has no texts, not even empty ones, is gone already.
fn batches(ids: &[i64], text_bytes: &HashMap<i64, i64>) -> VecDeque<Vec<i64>> {
    let mut batches: VecDeque<Vec<i64>> = VecDeque::new();
    let mut room = 0;
    for (id, bytes) in ids.iter().filter_map(|id| Some((*id, *text_bytes.get(id)?))) {
        match batches.back_mut() {
            Some(batch) if bytes <= room => batch.push(id),
            _ => {
                batches.push_back(vec![id]);
                room = BATCH_BYTES_MAX;
            }
        }
        room -= bytes;
    }
    batches
}

/// The entries of a batch as they stand in a list, of which others may have been written.
fn json_of<T: Serialize>(
    conn: &mut DbConnection,
    ids: &[i64],
    load: Load<T>,
    mut has_begun: bool,
) -> Result<Vec<u8>, BatchError> {
    let mut json = Vec::new();
    for entry in load(conn, ids).map_err(DatabaseError::from)? {
        if has_begun {
            json.push(b',');
        }
        has_begun = true;
        serde_json::to_writer(&mut json, &entry)?;
    }
    Ok(json)
}

/// Why a list ends too early.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("a batch of a list cannot be read")]
    Database(#[from] DatabaseError),
    #[error("a batch of a list cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl From<BatchError> for ListError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Database(error) => error.into(),
            BatchError::Json(error) => ApiError::internal(&error).into(),
        }
    }
}

struct Outgoing<T> {
    db: Db,
    /// What is read and not sent.
    ready: web::Bytes,
    has_begun: bool,
    left: VecDeque<Vec<i64>>,
    load: Load<T>,
    /// What stands behind the entries, until that is ready, too.
    behind: Option<&'static str>,
}

impl<T: Serialize + 'static> Outgoing<T> {
    /// What is sent next; none at the end.
    async fn next(mut self) -> Result<Option<(web::Bytes, Self)>, BatchError> {
        // An empty chunk would be the end.
        while self.ready.is_empty() {
            if let Some(ids) = self.left.pop_front() {
                let (load, has_begun) = (self.load, self.has_begun);
                let batch = self.db.read(move |conn| json_of(conn, &ids, load, has_begun)).await?;
                self.has_begun |= !batch.is_empty();
                self.ready = batch.into();
            } else if let Some(behind) = self.behind.take() {
                self.ready = web::Bytes::from_static(behind.as_bytes());
            } else {
                return Ok(None);
            }
        }
        let chunk = self.ready.split_to(self.ready.len().min(CHUNK_BYTES_MAX));
        Ok(Some((chunk, self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_where_its_texts_would_be_too_many_and_keeps_its_order() {
        let of = |bytes: &[(i64, i64)]| {
            let ids: Vec<i64> = bytes.iter().map(|(id, _)| *id).collect();
            Vec::from(batches(&ids, &bytes.iter().copied().collect()))
        };
        let half = BATCH_BYTES_MAX / 2;
        assert_eq!(of(&[]), Vec::<Vec<i64>>::new());
        assert_eq!(of(&[(3, 0), (1, half), (2, half)]), [vec![3, 1, 2]]);
        assert_eq!(of(&[(3, half), (1, half), (2, 1), (4, 0)]), [vec![3, 1], vec![2, 4]]);
        assert_eq!(of(&[(3, 9 * half), (1, 0), (2, 3 * half), (4, 1)]), [vec![3], vec![1], vec![2], vec![4]]);
        assert_eq!(batches(&[1, 2], &HashMap::from([(2, 1)])), [vec![2]], "the other is gone");
    }
}
