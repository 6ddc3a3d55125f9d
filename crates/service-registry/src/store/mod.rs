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

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_migrations::embed_migrations;
use service_kit::database::{DbConnection, Migrations};

use crate::access::Owner;

const MIGRATIONS: Migrations =
    Migrations { postgres: embed_migrations!("migrations/postgres"), sqlite: embed_migrations!("migrations/sqlite") };

/// Most rows of one insert.
const ROWS_MAX: usize = 1_000;

/// This microservice's migrations.
#[must_use]
pub fn migrations() -> Migrations {
    MIGRATIONS
}

/// Has whoever else makes something for this owner wait until the end of the transaction: else of two who count at once
/// each finds the last place free. PostgreSQL only; SQLite has one writer at a time.
pub(crate) fn lock(conn: &mut DbConnection, owner: &Owner) -> QueryResult<()> {
    let DbConnection::Postgres(conn) = conn else { return Ok(()) };
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1 || E'\\n' || $2, 0))")
        .bind::<Text, _>(&owner.organisation)
        .bind::<Text, _>(&owner.username)
        .execute(conn)?;
    Ok(())
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}
