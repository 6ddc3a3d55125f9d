//! Bringing a database to the version of this program, one process at a time.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use diesel::backend::Backend as DieselBackend;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::migration::{MigrationSource, Result as MigrationResult};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use super::manager::Manager;
use super::{Backend, DatabaseError, DbConnection};

/// The advisory lock that migrations take: `carillon` in ASCII.
pub(super) const LOCK: i64 = 0x6361_7269_6c6c_6f6e;

/// Another process may be migrating a large table.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(300);
const LOCK_POLL: Duration = Duration::from_millis(200);

/// The migrations of a microservice, one set for each database.
///
/// To be written as a constant: `const MIGRATIONS: Migrations = Migrations { postgres:
/// embed_migrations!("migrations/postgres"), sqlite: embed_migrations!("migrations/sqlite") };`
pub struct Migrations {
    /// For PostgreSQL.
    pub postgres: EmbeddedMigrations,
    /// For SQLite.
    pub sqlite: EmbeddedMigrations,
}

/// Applies what is missing, on a connection of its own; refuses a database that is ahead.
pub(super) fn migrate(manager: &Manager, migrations: &Migrations) -> Result<(), DatabaseError> {
    match &mut manager.open()? {
        DbConnection::Postgres(connection) => {
            lock(manager, connection)?;
            // The lock goes with the connection.
            apply(manager, connection, &migrations.postgres).map(|_| ())
        }
        DbConnection::Sqlite(connection) => migrate_sqlite(manager, connection, &migrations.sqlite),
    }
}

/// Refuses a database that is not at the version of this program; changes nothing.
pub(super) fn check(manager: &Manager, migrations: &Migrations) -> Result<(), DatabaseError> {
    const TABLE: &str = "__diesel_schema_migrations";
    let mut connection = manager.open()?;
    let is_there = match connection {
        DbConnection::Postgres(_) => format!("SELECT to_regclass('{TABLE}') IS NOT NULL"),
        DbConnection::Sqlite(_) => format!("SELECT count(*) > 0 FROM sqlite_master WHERE name = '{TABLE}'"),
    };
    let applied: BTreeSet<String> = if diesel::dsl::sql::<Bool>(&is_there).get_result(&mut connection)? {
        let versions = diesel::dsl::sql::<Text>(&format!("SELECT version FROM {TABLE}"));
        versions.load::<String>(&mut connection)?.into_iter().collect()
    } else {
        BTreeSet::new()
    };
    let known = known(manager.backend(), migrations);
    refuse_newer(manager, &applied, &known)?;
    match known.difference(&applied).next() {
        Some(version) => Err(DatabaseError::Older { database: manager.database(), version: version.clone() }),
        None => Ok(()),
    }
}

/// Polls for the lock. Waiting for it inside the database would be a query in progress, which a migration with
/// `CREATE INDEX CONCURRENTLY` in another process would in turn wait for.
fn lock(manager: &Manager, connection: &mut PgConnection) -> Result<(), DatabaseError> {
    connection.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;")?;
    let started = Instant::now();
    loop {
        let attempt = diesel::dsl::sql::<Bool>("SELECT pg_try_advisory_lock(").bind::<BigInt, _>(LOCK).sql(")");
        if attempt.get_result::<bool>(connection)? {
            return Ok(());
        }
        if started.elapsed() > LOCK_WAIT_MAX {
            return Err(DatabaseError::MigrationLocked { database: manager.database(), waited: LOCK_WAIT_MAX });
        }
        thread::sleep(LOCK_POLL);
    }
}

/// All in one transaction, which is the lock. References are checked at its end, as a migration may rebuild a table
/// that others refer to.
fn migrate_sqlite(
    manager: &Manager,
    connection: &mut SqliteConnection,
    source: &EmbeddedMigrations,
) -> Result<(), DatabaseError> {
    connection.batch_execute("PRAGMA foreign_keys = OFF")?;
    AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?;
    let newest = apply(manager, connection, source)?;
    if let Some(version) = newest {
        let broken = diesel::dsl::sql::<Text>("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1");
        if let Some(table) = broken.get_result::<String>(connection).optional()? {
            let source = format!("a row of table {table} refers to one that is not there").into();
            return Err(DatabaseError::Migration { version, source });
        }
    }
    Ok(AnsiTransactionManager::commit_transaction(connection)?)
}

/// The newest migration that this program knows.
pub(super) fn newest(backend: Backend, migrations: &Migrations) -> Option<String> {
    known(backend, migrations).pop_last()
}

fn known(backend: Backend, migrations: &Migrations) -> BTreeSet<String> {
    fn of<DB: DieselBackend>(source: &EmbeddedMigrations) -> BTreeSet<String> {
        let known = MigrationSource::<DB>::migrations(source).unwrap_or_default();
        known.iter().map(|migration| migration.name().version().to_string()).collect()
    }
    match backend {
        Backend::Postgres => of::<diesel::pg::Pg>(&migrations.postgres),
        Backend::Sqlite => of::<diesel::sqlite::Sqlite>(&migrations.sqlite),
    }
}

/// Runs the pending migrations in order; gives the newest that it ran.
fn apply<C, DB>(
    manager: &Manager,
    connection: &mut C,
    source: &EmbeddedMigrations,
) -> Result<Option<String>, DatabaseError>
where
    DB: DieselBackend,
    C: MigrationHarness<DB>,
{
    let failed = |version: &str, source| DatabaseError::Migration { version: version.to_owned(), source };
    let applied = applied(connection).map_err(|source| failed("table", source))?;
    let mut pending = MigrationSource::<DB>::migrations(source).map_err(|source| failed("list", source))?;

    let known: BTreeSet<String> = pending.iter().map(|migration| migration.name().version().to_string()).collect();
    refuse_newer(manager, &applied, &known)?;

    pending.retain(|migration| !applied.contains(&migration.name().version().to_string()));
    pending.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    let mut newest = None;
    for migration in &pending {
        let version = migration.name().version().to_string();
        connection.run_migration(migration).map_err(|source| failed(&version, source))?;
        tracing::info!(database = manager.database(), migration = %migration.name(), "database migrated");
        newest = Some(version);
    }
    Ok(newest)
}

/// Refuses a database that has a migration which this program does not know.
fn refuse_newer(manager: &Manager, applied: &BTreeSet<String>, known: &BTreeSet<String>) -> Result<(), DatabaseError> {
    match applied.difference(known).last() {
        Some(version) => Err(DatabaseError::Newer { database: manager.database(), version: version.clone() }),
        None => Ok(()),
    }
}

fn applied<C: MigrationHarness<DB>, DB: DieselBackend>(connection: &mut C) -> MigrationResult<BTreeSet<String>> {
    Ok(connection.applied_migrations()?.iter().map(ToString::to_string).collect())
}
