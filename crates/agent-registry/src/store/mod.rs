//! The registry's tables: one file each, written once for both back ends.
//!
//! Functions take a connection and values, never a clock; transactions are their callers'.
//!
//! A transaction locks in this order, so that two at once never wait for each other in a circle: the key of a request
//! that may be repeated; organisations, by key; agents, by id; mentors; documents, by [`documents::DocumentName`];
//! activities, by agent; logs. Who deletes an agent, or has one wait for another, holds the organisation meanwhile.

pub(crate) mod activity;
pub(crate) mod agent_counts;
pub(crate) mod agent_list;
pub(crate) mod agents;
pub(crate) mod api_keys;
pub(crate) mod audit_log;
pub(crate) mod callback_states;
pub(crate) mod counts;
pub(crate) mod documents;
pub(crate) mod idempotency;
pub(crate) mod log_counts;
pub(crate) mod log_list;
pub(crate) mod log_texts;
pub(crate) mod logs;
pub(crate) mod mentor_list;
pub(crate) mod mentors;
pub(crate) mod organisations;
pub(crate) mod schema;
pub(crate) mod shown_agents;
pub(crate) mod users;

use diesel_migrations::embed_migrations;
use service_kit::database::Migrations;

pub(crate) const MIGRATIONS: Migrations =
    Migrations { postgres: embed_migrations!("migrations/postgres"), sqlite: embed_migrations!("migrations/sqlite") };

/// This microservice's migrations.
#[must_use]
pub fn migrations() -> Migrations {
    MIGRATIONS
}

/// A word out of a column; one that no version of ours wrote is a damaged row.
fn read_word<T: std::str::FromStr<Err = model::word::UnknownWord>>(word: &str) -> diesel::QueryResult<T> {
    word.parse().map_err(|unknown| diesel::result::Error::DeserializationError(Box::new(unknown)))
}

diesel::define_sql_function! {
    /// SQL's own: on SQLite, and where PostgreSQL's locale is `C`, it knows only the letters of ASCII.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// A pattern for `LIKE` that finds `term` anywhere, with `\` as its escape.
fn containing(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 2);
    pattern.push('%');
    for char in term.chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}

/// Whether a search has to ask for itself if there is time left.
fn is_sqlite(conn: &service_kit::database::DbConnection) -> bool {
    matches!(conn, service_kit::database::DbConnection::Sqlite(_))
}

/// A page of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

impl Window {
    /// What it shows of these.
    fn of(self, all: &[i64]) -> &[i64] {
        let at = |index: i64| usize::try_from(index).unwrap_or(usize::MAX).min(all.len());
        all.get(at(self.offset)..at(self.offset.saturating_add(self.limit))).unwrap_or_default()
    }
}

/// Adds one more column to the order of a boxed query, upwards or downwards.
macro_rules! then_order_by {
    ($query:expr, $column:expr, $down:expr) => {
        if $down { $query.then_order_by($column.desc()) } else { $query.then_order_by($column.asc()) }
    };
}
pub(crate) use then_order_by;

/// The fields that a list may be ordered by, each with how it orders the list's query, downwards or not.
macro_rules! orderable {
    (|$query:ident: $type:ty, $down:ident| { $($name:literal => $ordered:expr,)+ }) => {
        /// The fields that a list may be ordered by.
        pub(crate) const ORDERABLE: &[&str] = &[$($name),+];

        /// Adds one of [`ORDERABLE`] to the order.
        fn then_ordered_by($query: $type, name: &str, $down: bool) -> $type {
            match name {
                $($name => $ordered,)+
                _ => $query,
            }
        }
    };
}
pub(crate) use orderable;

/// Inserts rows in one statement; no rows, in none. That of one row alone stays prepared: Diesel prepares those of several
/// anew each time.
macro_rules! insert_all {
    ($conn:expr, $table:expr, $rows:expr) => {
        match <[_; 1]>::try_from($rows) {
            Ok([one]) => service_kit::per_backend!($conn, c => diesel::insert_into($table).values(one).execute(c)),
            Err(none) if none.is_empty() => Ok(0),
            Err(several) => {
                service_kit::per_backend!($conn, c => diesel::insert_into($table).values(several).execute(c))
            }
        }
        .map(|_| ())
    };
}
pub(crate) use insert_all;

/// Upserts rows under a condition, and collects what that returns: in one statement on PostgreSQL; row by row on SQLite,
/// for which Diesel has no conditional upserts of several rows, and where a statement costs no journey.
macro_rules! upsert_each {
    ($conn:expr, $rows:expr, $inner:ident, $values:ident => $statement:expr) => {
        match $conn {
            service_kit::database::DbConnection::Postgres($inner) => {
                let $values = $rows;
                $statement.map(|changed| changed.into_iter().collect())
            }
            service_kit::database::DbConnection::Sqlite($inner) => {
                let mut changed = Vec::new();
                for $values in $rows {
                    changed.extend($statement?);
                }
                Ok(changed.into_iter().collect())
            }
        }
    };
}
pub(crate) use upsert_each;

#[cfg(test)]
mod tests {
    use diesel::Connection;
    use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

    const SQLITE: EmbeddedMigrations = diesel_migrations::embed_migrations!("migrations/sqlite");

    #[test]
    fn the_migrations_go_up_and_down_and_up_again() {
        let mut connection = diesel::SqliteConnection::establish(":memory:").unwrap();
        connection.run_pending_migrations(SQLITE).unwrap();
        connection.revert_all_migrations(SQLITE).unwrap();
        connection.run_pending_migrations(SQLITE).unwrap();
    }

    #[test]
    fn a_search_term_means_itself_whatever_it_holds() {
        assert_eq!(super::containing("100%_\\"), "%100\\%\\_\\\\%");
    }
}
