//! The database of a microservice: SQLite or PostgreSQL, chosen by URL, behind one set of store functions.
//!
//! A store function takes `&mut `[`DbConnection`]. What diesel can do through that enum is written once; batch inserts,
//! `on_conflict` and `returning` are expanded for each backend by [`per_backend!`](crate::per_backend). Times, UUIDs
//! and JSON have portable column types ([`SqlTimestamp`], [`SqlUuid`], [`SqlJson`]). [`Db`] runs store functions on
//! pooled connections, away from the threads that must not block.

mod connection;
mod db;
mod deadline;
mod error;
mod health;
mod manager;
mod migrate;
mod sqlite_file;
mod types;
mod watch;

pub use connection::{DbConnection, MultiBackend};
pub use db::Db;
pub use deadline::in_time;
pub use error::DatabaseError;
pub use manager::check_url;
pub use migrate::Migrations;
pub use sqlite_file::sqlite_file;
pub use types::{Json, SqlJson, SqlTimestamp, SqlUuid, Timestamp, Uid};

/// Which database is behind a [`Db`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL, shared by any number of processes.
    Postgres,
    /// A SQLite file of this process.
    Sqlite,
}
