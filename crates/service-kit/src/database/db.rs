//! Running store functions on pooled connections.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::{NopErrorHandler, Pool};
use diesel::sql_types::{BigInt, Nullable, Text};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::health::Losses;
use super::manager::{Manager, Pooled};
use super::migrate::{self, Migrations};
use super::{Backend, DatabaseError, DbConnection, SqlTimestamp, Timestamp};
use crate::clock::Clock;
use crate::config::DatabaseConfig;

/// How long one waits for its turn, and for a connection, before the database counts as busy.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The database of a microservice. Clones share its connections.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    pool: Pool<Manager>,
    backend: Backend,
    database: String,
    /// The newest migration that this program knows.
    schema: Option<String>,
    losses: Arc<Losses>,
    /// As many as connections: who waits for one, waits here and holds no thread.
    permits: Arc<Semaphore>,
    /// SQLite has one writer at a time. Here writers queue in order; in SQLite they would poll, and the unlucky starve.
    writer: Option<Arc<Mutex<()>>>,
}

/// What one holds while it works on a connection; given back when the work is done, even if nobody waits for it.
struct Turn {
    _in_use: InUse,
    _permit: OwnedSemaphorePermit,
    _writer: Option<OwnedMutexGuard<()>>,
}

/// A connection that is counted as at work.
struct InUse;

impl InUse {
    fn begin() -> Self {
        metrics::gauge!("carillon_database_connections_in_use").increment(1);
        Self
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        metrics::gauge!("carillon_database_connections_in_use").decrement(1);
    }
}

impl Db {
    /// Opens the database, makes a SQLite file if there is none, and migrates it.
    ///
    /// # Errors
    ///
    /// One line on what is wrong: the URL, the server, the file, a database that is damaged or ahead of this program.
    pub async fn open(config: &DatabaseConfig, migrations: Migrations) -> Result<Self, DatabaseError> {
        Self::open_with(Manager::new(&config.url)?, config, migrations).await
    }

    /// As [`open`](Self::open), where every statement that is made often has an index to walk, and is to walk it also
    /// while its table is small.
    ///
    /// PostgreSQL keeps the plan of a prepared statement until it analyses the table, up to a minute later. One that
    /// was made for an empty table reads it from end to end, also when a burst has filled it meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub async fn open_by_index(config: &DatabaseConfig, migrations: Migrations) -> Result<Self, DatabaseError> {
        Self::open_with(Manager::new(&config.url)?.by_index(), config, migrations).await
    }

    /// As [`open`](Self::open), but changes nothing: for whoever only looks, or repairs what runs.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); [`DatabaseError::Older`] if the database is not of this version.
    pub async fn open_as_it_is(config: &DatabaseConfig, migrations: Migrations) -> Result<Self, DatabaseError> {
        let manager = Manager::new(&config.url)?;
        let (checked, migrations) =
            blocking(move || migrate::check(&manager, &migrations).map(|()| (manager, migrations))).await??;
        Self::open_with(checked, config, migrations).await
    }

    async fn open_with(
        manager: Manager,
        config: &DatabaseConfig,
        migrations: Migrations,
    ) -> Result<Self, DatabaseError> {
        let pool_size = config.pool_size.max(1);
        blocking(move || {
            manager.prepare()?;
            migrate::migrate(&manager, &migrations)?;
            let schema = migrate::newest(manager.backend(), &migrations);
            let (backend, database, losses) = (manager.backend(), manager.database(), manager.losses());
            let pool = Pool::builder()
                .max_size(pool_size)
                .min_idle(Some(1))
                .connection_timeout(CONNECT_WAIT_MAX)
                .test_on_check_out(true)
                // The one who wanted the connection hears of it.
                .error_handler(Box::new(NopErrorHandler))
                .build_unchecked(manager);
            let permits = Arc::new(Semaphore::new(pool_size as usize));
            let writer = (backend == Backend::Sqlite).then(Arc::default);
            Ok(Self(Arc::new(Inner { pool, backend, database, schema, losses, permits, writer })))
        })
        .await?
    }

    /// Which database this is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    /// Runs `work` on a connection, outside any transaction.
    ///
    /// # Errors
    ///
    /// Those of `work`, and [`DatabaseError::is_unavailable`] ones if there is no connection.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&mut DbConnection) -> Result<T, E> + Send + 'static,
    {
        let turn = self.turn(None).await?;
        self.run(turn, |pooled| work(&mut pooled.connection)).await
    }

    /// As [`read`](Self::read), but a statement that takes longer than `limit` is given up, with an error that
    /// [`DatabaseError::is_too_slow`]: any by PostgreSQL; by SQLite one that asks [`in_time`](super::in_time), as soon
    /// as all together take longer.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub async fn read_within<T, E, F>(&self, limit: Duration, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&mut DbConnection) -> Result<T, E> + Send + 'static,
    {
        if self.backend() == Backend::Sqlite {
            let turn = self.turn(None).await?;
            return self
                .run(turn, move |pooled| {
                    let _within = pooled.deadline.within(limit);
                    work(&mut pooled.connection)
                })
                .await;
        }
        self.write(move |connection| {
            let limit = format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
            diesel::sql_query(limit).execute(connection).map_err(DatabaseError::from)?;
            work(connection)
        })
        .await
    }

    /// Runs `work` in one transaction, which is undone if it fails. On SQLite, writers take turns.
    ///
    /// Once begun it goes on to its end, even if the returned future is dropped. A statement that may fail without
    /// failing the whole stands in a `connection.transaction(…)` of its own.
    ///
    /// # Errors
    ///
    /// Those of `work`, and [`DatabaseError::is_unavailable`] ones if there is no connection. An error of the commit
    /// leaves open whether it took place.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&mut DbConnection) -> Result<T, E> + Send + 'static,
    {
        let writer = match &self.0.writer {
            Some(writer) => Some(in_time(Arc::clone(writer).lock_owned()).await?),
            None => None,
        };
        let turn = self.turn(writer).await?;
        self.run(turn, move |pooled| in_transaction(pooled, work)).await
    }

    /// As [`write`](Self::write), while no other process does the same or migrates: for what an installation does
    /// once at start.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write).
    pub async fn write_exclusively<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&mut DbConnection) -> Result<T, E> + Send + 'static,
    {
        self.write(move |connection| {
            if let DbConnection::Postgres(connection) = connection {
                let lock = diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(migrate::LOCK);
                lock.execute(connection).map_err(DatabaseError::from)?;
            }
            work(connection)
        })
        .await
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    ///
    /// None came.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.read(|connection| Ok(diesel::sql_query("SELECT 1").execute(connection).map(|_| ())?)).await
    }

    /// How far the database's clock is ahead of the host's; zero for SQLite, which has none of its own.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn clock_offset(&self, clock: &Clock) -> Result<TimeDelta, DatabaseError> {
        let clock = clock.clone();
        self.read(move |connection| {
            let DbConnection::Postgres(connection) = connection else { return Ok(TimeDelta::zero()) };
            let host = || clock.now() - clock.offset();
            let before = host();
            let now: Timestamp = diesel::dsl::sql::<SqlTimestamp>("SELECT clock_timestamp()").get_result(connection)?;
            // The answer was true somewhere between question and receipt: halfway is the best guess.
            Ok(*now - (before + (host() - before) / 2))
        })
        .await
    }

    /// The newest migration in the database, if a newer version of the program has made one since this one started.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn newer_schema(&self) -> Result<Option<String>, DatabaseError> {
        let newest = self
            .read(|connection| {
                let newest = diesel::dsl::sql::<Nullable<Text>>("SELECT max(version) FROM __diesel_schema_migrations");
                Ok::<Option<String>, DatabaseError>(newest.get_result(connection)?)
            })
            .await?;
        Ok(newest.filter(|newest| Some(newest) > self.0.schema.as_ref()))
    }

    /// The losses of its connections.
    pub(super) fn losses(&self) -> &Losses {
        &self.0.losses
    }

    async fn turn(&self, writer: Option<OwnedMutexGuard<()>>) -> Result<Turn, DatabaseError> {
        let asked = Instant::now();
        let permit = in_time(Arc::clone(&self.0.permits).acquire_owned()).await?;
        // The semaphore is never closed.
        let permit = permit.map_err(|_| DatabaseError::Stopped)?;
        metrics::histogram!("carillon_database_wait_seconds").record(asked.elapsed());
        Ok(Turn { _in_use: InUse::begin(), _permit: permit, _writer: writer })
    }

    async fn run<T, E, F>(&self, turn: Turn, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&mut Pooled) -> Result<T, E> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mut pooled = inner.pool.get().map_err(|error| inner.unreachable(&error))?;
            let outcome = work(&mut pooled);
            // The connection goes back to the pool before the turn passes on.
            drop(pooled);
            drop(turn);
            outcome
        })
        .await?
    }
}

impl Inner {
    fn unreachable(&self, error: &dyn fmt::Display) -> DatabaseError {
        let told =
            |reason: &str| DatabaseError::Unreachable { database: self.database.clone(), reason: reason.to_owned() };
        // The pool repeats what the last attempt to connect said, which begins as this error does.
        let (text, beginning) = (error.to_string(), told("").to_string());
        told(text.rsplit_once(&beginning).map_or(text.as_str(), |(_, reason)| reason))
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.0.database).finish()
    }
}

async fn in_time<T>(turn: impl Future<Output = T>) -> Result<T, DatabaseError> {
    timeout(TURN_WAIT_MAX, turn).await.map_err(|_| DatabaseError::Busy(TURN_WAIT_MAX))
}

/// Runs `work` where it may block. Its panic becomes the caller's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DatabaseError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(DatabaseError::Stopped),
        },
    }
}

fn in_transaction<T, E: From<DatabaseError>>(
    Pooled { connection, health, .. }: &mut Pooled,
    work: impl FnOnce(&mut DbConnection) -> Result<T, E>,
) -> Result<T, E> {
    type Transactions = <DbConnection as Connection>::TransactionManager;

    match connection {
        DbConnection::Postgres(connection) => AnsiTransactionManager::begin_transaction(connection),
        // Asks for the right to write at once: to ask for it halfway can fail.
        DbConnection::Sqlite(connection) => {
            AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
        }
    }
    .map_err(DatabaseError::from)?;
    let outcome = match work(connection) {
        Ok(_) if health.statement_failed() => Err(DatabaseError::Swallowed.into()),
        outcome => outcome,
    };
    match outcome {
        Ok(value) => {
            Transactions::commit_transaction(connection).map_err(DatabaseError::from)?;
            Ok(value)
        }
        Err(error) => {
            // If this fails the connection is broken, and the pool drops it: then the database itself rolls back.
            let _ = Transactions::rollback_transaction(connection);
            Err(error)
        }
    }
}
