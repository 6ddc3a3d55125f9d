//! The dispatcher's tables: one file each, written once for both back ends.
//!
//! Functions take a connection and values, never a clock; transactions are their callers'.

pub(crate) mod answers;
pub(crate) mod arrivals;
pub(crate) mod backlog;
pub(crate) mod documents;
pub(crate) mod everything;
pub(crate) mod history;
pub(crate) mod let_go;
pub(crate) mod limits;
pub(crate) mod literal;
pub(crate) mod one_offs;
pub(crate) mod overdue;
pub(crate) mod queue;
pub(crate) mod revoked_users;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod stage;
pub(crate) mod ticks;
pub(crate) mod triggers;
pub(crate) mod turns;
pub(crate) mod window;
pub(crate) mod zone_changes;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use service_kit::database::{Migrations, Timestamp};

diesel::define_sql_function! {
    /// How many bytes: neither database reads them for that. Not written as SQL of ours, of which diesel prepares nothing.
    fn octet_length(bytes: diesel::sql_types::Binary) -> diesel::sql_types::Integer;
}

/// Most rows in one statement that binds each of their values: SQLite binds at most 32,766.
const ROWS_MAX: usize = 1_000;

/// This microservice's migrations.
pub fn migrations() -> Migrations {
    const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
    const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
    Migrations { postgres: POSTGRES, sqlite: SQLITE }
}

/// A word out of a column; one that no version of ours wrote is a damaged row.
fn read_word<T: std::str::FromStr<Err = model::word::UnknownWord>>(word: &str) -> QueryResult<T> {
    word.parse().map_err(|unknown| diesel::result::Error::DeserializationError(Box::new(unknown)))
}

/// Bytes out of a column, as the message that was stored.
fn read_wire<T: model::wire::Wire>(bytes: &[u8]) -> QueryResult<T> {
    T::decode(bytes).map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))
}

fn time(value: Option<Timestamp>) -> Option<DateTime<Utc>> {
    value.map(|stamp| *stamp)
}

fn stamp(value: Option<DateTime<Utc>>) -> Option<Timestamp> {
    value.map(Timestamp::from)
}
