//! Opening connections by URL, and telling the pool which of them still work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{Connection as _, SimpleConnection};
use diesel::r2d2::{ManageConnection, R2D2Connection};
use diesel::{ConnectionError, PgConnection};

use super::deadline::Deadline;
use super::health::{Health, Losses};
use super::sqlite_file;
use super::{Backend, DatabaseError, DbConnection};
use crate::config::ConnectionUrl;

/// A connection that was used this recently is handed out unasked, unless another was lost meanwhile.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// What PostgreSQL is asked to do for us: end what hangs, so that a frozen process holds no locks.
const SESSION: &str = "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '5s';";

/// What it is asked besides where statements have an index to walk: to walk it, however small the table still is. Where
/// there is none it may read the table, but the price that it then names is no reason to compile the statement.
const BY_INDEX: &str = "SET enable_seqscan = off; SET jit = off;";

/// Limits for the network below: a dead host must be noticed though it answers nothing.
const NETWORK: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("application_name", "carillon"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "40000"),
];

/// Opens connections to one database.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    url: ConnectionUrl,
    address: Address,
    by_index: bool,
    losses: Arc<Losses>,
}

#[derive(Debug, Clone)]
enum Address {
    Postgres,
    Sqlite(std::path::PathBuf),
}

/// Whether a URL names a database, as far as the URL itself tells.
///
/// # Errors
///
/// What is wrong with it, to stand after the name of its setting.
pub fn check_url(url: &ConnectionUrl) -> Result<(), String> {
    match Manager::new(url) {
        Err(DatabaseError::Url(problem)) => Err(problem),
        Err(other) => Err(other.to_string()),
        Ok(_) => Ok(()),
    }
}

/// A connection in the pool.
pub(super) struct Pooled {
    pub(super) connection: DbConnection,
    pub(super) health: Health,
    /// Of a SQLite connection; PostgreSQL is told.
    pub(super) deadline: Deadline,
    /// When it was last used, and how many connections had been lost by then.
    used: (Instant, u64),
}

impl Manager {
    pub(super) fn new(url: &ConnectionUrl) -> Result<Self, DatabaseError> {
        let text = url.expose();
        let address = match text.split_once(':') {
            Some(("sqlite", _)) => Address::Sqlite(sqlite_file::path_of(text)?),
            // libpq's own complaint about a URL may repeat parts of the password, so it does not get to see a bad one.
            Some(("postgres" | "postgresql", _)) if let Ok(parsed) = url::Url::parse(text) => {
                refuse_tls_without_libpq(&parsed)?;
                Address::Postgres
            }
            Some(("postgres" | "postgresql", _)) => {
                let problem = "is not understood: percent-encode special characters in user and password";
                return Err(DatabaseError::Url(problem.to_owned()));
            }
            _ if text.is_empty() => {
                return Err(DatabaseError::Url("must be set: sqlite:<file> or postgres://…".to_owned()));
            }
            _ => return Err(DatabaseError::Url(format!("must begin with sqlite: or postgres://, got {url}"))),
        };
        Ok(Self { url: url.clone(), address, by_index: false, losses: Arc::default() })
    }

    /// For statements that all have an index to walk.
    pub(super) fn by_index(self) -> Self {
        Self { by_index: true, ..self }
    }

    pub(super) fn backend(&self) -> Backend {
        match self.address {
            Address::Postgres => Backend::Postgres,
            Address::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Hears of every connection that is lost.
    pub(super) fn losses(&self) -> Arc<Losses> {
        Arc::clone(&self.losses)
    }

    /// The URL without its password.
    pub(super) fn database(&self) -> String {
        self.url.redacted()
    }

    /// Once, at start: what the first connection cannot do by itself.
    pub(super) fn prepare(&self) -> Result<(), DatabaseError> {
        match &self.address {
            Address::Postgres => Ok(()),
            Address::Sqlite(path) => sqlite_file::prepare(path),
        }
    }

    pub(super) fn open(&self) -> Result<DbConnection, DatabaseError> {
        match &self.address {
            Address::Postgres => self.open_postgres().map(DbConnection::Postgres),
            Address::Sqlite(path) => sqlite_file::connect(path).map(DbConnection::Sqlite),
        }
    }

    fn used_now(&self) -> (Instant, u64) {
        (Instant::now(), self.losses.count())
    }

    fn open_postgres(&self) -> Result<PgConnection, DatabaseError> {
        let unreachable = |reason: String| DatabaseError::Unreachable {
            database: self.database(),
            // libpq speaks in several lines.
            reason: self.url.redact(&reason).split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let connection = PgConnection::establish(&with_network_limits(self.url.expose()));
        let mut connection = connection.map_err(|error| match error {
            ConnectionError::BadConnection(reason) => unreachable(reason),
            other => unreachable(other.to_string()),
        })?;
        let by_index = if self.by_index { BY_INDEX } else { "" };
        connection.batch_execute(&[SESSION, by_index].concat()).map_err(|error| unreachable(error.to_string()))?;
        Ok(connection)
    }
}

impl ManageConnection for Manager {
    type Connection = Pooled;
    type Error = DatabaseError;

    fn connect(&self) -> Result<Pooled, DatabaseError> {
        let used = self.used_now();
        let health = Health::new(Arc::clone(&self.losses));
        let deadline = Deadline::default();
        let mut connection = self.open()?;
        if let DbConnection::Sqlite(connection) = &mut connection {
            deadline.install(connection)?;
        }
        connection.set_instrumentation(health.clone());
        Ok(Pooled { connection, health, deadline, used })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), DatabaseError> {
        let now = self.used_now();
        let (used_at, losses) = std::mem::replace(&mut pooled.used, now);
        if losses == now.1 && now.0 - used_at < TRUSTED_FOR {
            return Ok(());
        }
        Ok(pooled.connection.ping()?)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        // A panic may have left a transaction open; what diesel calls broken covers the rest.
        std::thread::panicking() || pooled.health.is_lost() || pooled.connection.is_broken()
    }
}

/// libpq's own complaint names neither the setting nor what to do, and comes only with the first connection.
fn refuse_tls_without_libpq(url: &url::Url) -> Result<(), DatabaseError> {
    let wanted = url.query_pairs().filter(|(name, _)| name == "sslmode").map(|(_, mode)| mode).last();
    match wanted.as_deref() {
        Some(mode @ ("require" | "verify-ca" | "verify-full")) if cfg!(not(feature = "libpq")) => {
            Err(DatabaseError::Url(format!(
                "asks for TLS (`sslmode={mode}`), which this build cannot do: \
                 build with `--no-default-features --features libpq`"
            )))
        }
        _ => Ok(()),
    }
}

/// The URL with the limits that its owner did not set.
fn with_network_limits(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in NETWORK {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Manager::new(&ConnectionUrl::new(url)).unwrap_err().to_string()
    }

    #[test]
    fn a_url_that_names_no_known_database_is_refused_with_what_to_write() {
        assert!(refusal("").contains("must be set"));
        assert!(refusal("mysql://u:s3cret@db/x").contains("must begin with sqlite: or postgres://"));
        assert!(refusal("registry.db").contains("must begin with sqlite:"));
        assert!(refusal("sqlite::memory:").contains("must name a file"));
        assert!(refusal("sqlite:").contains("must name a file"));
    }

    #[test]
    fn a_refusal_does_not_show_the_password() {
        for url in ["mysql://u:s3cret@db/x", "postgres://u:s3cret@d b/x", "postgres://u:s3cret:@db:x/x"] {
            assert!(!refusal(url).contains("s3cret"), "{}", refusal(url));
        }
    }

    #[cfg(not(feature = "libpq"))]
    #[test]
    fn a_build_without_tls_says_so_to_a_url_that_asks_for_it() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let refusal = refusal(&format!("postgres://u:s3cret@db/x?connect_timeout=9&sslmode={mode}"));
            let wanted = format!("`database.url` asks for TLS (`sslmode={mode}`), which this build cannot do");
            assert!(refusal.starts_with(&wanted), "{refusal}");
            assert!(refusal.contains("--features libpq") && !refusal.contains("s3cret"), "{refusal}");
        }
        for mode in ["disable", "allow", "prefer"] {
            assert!(Manager::new(&ConnectionUrl::new(format!("postgres://db/x?sslmode={mode}"))).is_ok(), "{mode}");
        }
    }

    #[test]
    fn limits_are_added_unless_the_url_has_its_own() {
        let url = with_network_limits("postgres://db/x?connect_timeout=60");
        assert!(url.starts_with("postgres://db/x?connect_timeout=60&application_name=carillon&"));
        assert!(with_network_limits("postgres://db/x").contains("x?connect_timeout=5&"));
    }
}
