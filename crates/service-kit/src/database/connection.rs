//! One connection type for both databases.

pub use multi::{DbConnection, MultiBackend};

mod multi {
    #![expect(missing_docs, reason = "the derive writes items that nobody can document")]

    use diesel::{PgConnection, SqliteConnection};

    /// A connection to either database.
    #[derive(diesel::MultiConnection)]
    pub enum DbConnection {
        /// To PostgreSQL.
        Postgres(PgConnection),
        /// To a SQLite file.
        Sqlite(SqliteConnection),
    }
}

/// Expands `$body` once for each database, with `$inner` bound to the diesel connection of its own type:
/// `per_backend!(connection, c => diesel::insert_into(runs::table).values(&rows).execute(c))`.
///
/// Needed for what diesel cannot do through the enum: batch inserts, `on_conflict` and `returning(….as_returning())`.
#[macro_export]
macro_rules! per_backend {
    ($connection:expr, $inner:ident => $body:expr) => {
        match $connection {
            $crate::database::DbConnection::Postgres($inner) => $body,
            $crate::database::DbConnection::Sqlite($inner) => $body,
        }
    };
}
