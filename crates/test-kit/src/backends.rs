//! The pair of back ends that a test runs on: SQLite and the embedded bus; or PostgreSQL, where
//! `CARILLON_TEST_POSTGRES_URL` names a server, and RabbitMQ, where `CARILLON_TEST_AMQP_URL` does.
//!
//! Each test has databases and queues of its own, made empty and dropped with it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::Bus;
use bus::embedded::EmbeddedBus;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use tempfile::TempDir;

use crate::broker::Broker;

/// How often a busy server is asked for a database, or to drop one.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The server that databases are made on.
const POSTGRES_URL: &str = "CARILLON_TEST_POSTGRES_URL";

/// The back ends of one test.
#[derive(Debug)]
pub struct Backends {
    folder: TempDir,
    postgres: Option<String>,
    broker: Option<Broker>,
    made: Mutex<Vec<String>>,
}

impl Backends {
    /// Those that the environment asks for.
    ///
    /// # Panics
    ///
    /// There is no room for a temporary folder.
    #[must_use]
    pub fn of_environment() -> Self {
        let postgres = std::env::vars().find(|(name, _)| name == POSTGRES_URL).map(|(_, url)| url);
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        Self { folder, postgres, broker: Broker::of_environment(), made: Mutex::default() }
    }

    /// Whether databases are PostgreSQL's.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// A folder of the test's own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The bus, empty at first. Opened again, it has what was left in it; an embedded one must be closed before.
    ///
    /// # Panics
    ///
    /// It cannot be made.
    pub async fn bus(&self) -> Arc<dyn Bus> {
        if let Some(broker) = &self.broker {
            return Arc::new(broker.bus().await);
        }
        let bus = EmbeddedBus::open(&self.folder.path().join("bus.db"));
        Arc::new(bus.unwrap_or_else(|error| panic!("no bus: {error}")))
    }

    /// The URL of a new, empty database.
    ///
    /// # Panics
    ///
    /// The server does not make one, for minutes.
    pub fn database(&self, name: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(server) = &self.postgres else {
            return format!("sqlite:{}", self.folder.path().join(format!("{name}.db")).display());
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("test_{}_{}_{number}", std::process::id(), name.replace('-', "_"));
        insist(server, &format!("CREATE DATABASE {database}")).unwrap_or_else(|failure| panic!("{failure}"));
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(database.clone());
        match server.rsplit_once('/') {
            Some((host, _)) => format!("{host}/{database}"),
            None => panic!("{POSTGRES_URL} names no database"),
        }
    }

    /// Runs statements on a PostgreSQL database.
    ///
    /// # Panics
    ///
    /// They fail.
    pub fn execute(&self, database: &str, statements: &str) {
        run(database, statements).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if let Some(server) = &self.postgres {
            for database in made {
                // The server ends who is connected, but whoever connects at that moment is in the way. What stays is no
                // fault of the test.
                let dropped = insist(server, &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"));
                dropped.unwrap_or_else(|failure| eprintln!("a database of a test stays: {failure}"));
            }
        }
    }
}

/// Runs a statement, again while the server has no connection or no room for it.
fn insist(server: &str, statement: &str) -> Result<(), String> {
    let mut done = run(server, statement);
    for _ in 1..TRIES {
        if done.is_ok() {
            break;
        }
        std::thread::sleep(TRY_AGAIN);
        done = run(server, statement);
    }
    done
}

fn run(server: &str, statement: &str) -> Result<(), String> {
    PgConnection::establish(server)
        .map_err(|error| error.to_string())
        .and_then(|mut connection| connection.batch_execute(statement).map_err(|error| error.to_string()))
        .map_err(|error| format!("`{statement}` failed: {error}"))
}
