//! A bound in time for statements on SQLite, which has none that safe code can reach.
//!
//! A query that may look at very many rows asks [`in_time`] of each. Beyond the deadline the function fails, and the
//! statement with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Bool};
use diesel::sqlite::Sqlite;

/// What SQLite says of a statement that was given up.
pub(super) const TOO_SLOW: &str = "the statement ran out of time";

#[diesel::declare_sql_function]
extern "SQL" {
    /// True of every row, until the time of [`Db::read_within`](super::Db::read_within) is over. On SQLite only: to
    /// PostgreSQL the time is told. `row` is a column of the table that is looked through, so that it is asked of each.
    fn in_time(row: BigInt) -> Bool;
}

/// Until when the statements of a connection may take. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Deadline(Arc<Mutex<Option<Instant>>>);

/// Ends with the deadline that it stands for.
pub(super) struct Within(Deadline);

impl Deadline {
    /// Makes [`in_time`] of this connection go by this deadline.
    pub(super) fn install(&self, connection: &mut SqliteConnection) -> QueryResult<()> {
        let deadline = self.clone();
        in_time_utils::register_nondeterministic_impl(connection, move |_row: i64| Answer(deadline.is_ahead()))
    }

    /// Sets the deadline until the guard is dropped.
    pub(super) fn within(&self, limit: Duration) -> Within {
        self.set(Instant::now().checked_add(limit));
        Within(self.clone())
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn is_ahead(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|until| Instant::now() < until)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// True, or the end of the statement.
#[derive(Debug)]
struct Answer(bool);

impl ToSql<Bool, Sqlite> for Answer {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        if !self.0 {
            return Err(TOO_SLOW.into());
        }
        out.set_value(1_i32);
        Ok(IsNull::No)
    }
}
