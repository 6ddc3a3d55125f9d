//! The registry's tables: one file each, written once for both back ends.
//!
//! Functions take a connection, whose things they look among, and values, never a clock; transactions are their
//! callers'.

pub(crate) mod callable;
pub(crate) mod connections;
pub(crate) mod groups;
pub(crate) mod numbers;
pub(crate) mod probes;
pub(crate) mod schema;
pub(crate) mod services;

use diesel_migrations::embed_migrations;
use service_kit::database::Migrations;

const MIGRATIONS: Migrations =
    Migrations { postgres: embed_migrations!("migrations/postgres"), sqlite: embed_migrations!("migrations/sqlite") };

/// Most rows of one insert.
const ROWS_MAX: usize = 1_000;

/// This microservice's migrations.
#[must_use]
pub fn migrations() -> Migrations {
    MIGRATIONS
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}
