//! What can go wrong with a database, and whose fault it is.

use std::path::PathBuf;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::deadline::TOO_SLOW;

/// Why the database did not do what was asked. Messages never show a password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL names no database that Carillon knows.
    #[error("`database.url` {0}")]
    Url(String),
    /// No connection, for now.
    #[error("cannot reach the database {database} of `database.url`: {reason}")]
    Unreachable {
        /// Its URL without the password.
        database: String,
        /// What its driver says.
        reason: String,
    },
    /// The file or its folder cannot be used.
    #[error("cannot open the database file {}: make its folder writable, or change `database.url`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no sound SQLite database.
    #[error("the database file {} is damaged ({reason}): restore a backup or move it away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A newer Carillon migrated this database.
    #[error(
        "the database {database} of `database.url` has migration {version}, which this version does not know: \
         start the newer version, or restore a backup"
    )]
    Newer {
        /// Its URL without the password.
        database: String,
        /// The newest migration that is not known.
        version: String,
    },
    /// An older Carillon made this database, or none did.
    #[error(
        "the database {database} has no migration {version}, which this version needs: start a microservice of this \
         version on it first, or use the version that runs"
    )]
    Older {
        /// Its URL without the password.
        database: String,
        /// The oldest migration that is missing.
        version: String,
    },
    /// Another process has held the migration lock for too long.
    #[error("another process has been migrating the database {database} for {waited:?}: see whether it hangs")]
    MigrationLocked {
        /// Its URL without the password.
        database: String,
        /// How long this one waited.
        waited: Duration,
    },
    /// A migration failed; none of it stays.
    #[error("migration {version} failed")]
    Migration {
        /// Which one.
        version: String,
        /// What the database says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// All connections were busy, or the writers before this one took too long.
    #[error("the database was busy for {0:?}")]
    Busy(Duration),
    /// A statement failed, and the work went on as if it had not. PostgreSQL would have dropped the rest in silence.
    #[error("a statement failed inside a transaction that went on: nothing of it was kept")]
    Swallowed,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopped,
    /// A query failed.
    #[error("query failed")]
    Query(#[from] QueryError),
}

impl DatabaseError {
    /// Whether the database is away, rather than the query or its data at fault.
    ///
    /// Nobody's fault: asked again later, the same may succeed. A message must not count this as its own failure, and
    /// a client hears 503.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy(_) | Self::Stopped | Self::Damaged { .. } => true,
            Self::Query(error) => is_outage(error),
            Self::Url(_) | Self::File { .. } | Self::Newer { .. } | Self::Older { .. } => false,
            Self::MigrationLocked { .. } | Self::Migration { .. } | Self::Swallowed => false,
        }
    }

    /// Whether a statement was given up because it took longer than it may.
    #[must_use]
    pub fn is_too_slow(&self) -> bool {
        let message = match self {
            Self::Query(QueryError::DatabaseError(_, information)) => information.message(),
            _ => return false,
        };
        message.contains("canceling statement due to statement timeout") || message.contains(TOO_SLOW)
    }
}

pub(super) fn is_outage(error: &QueryError) -> bool {
    match error {
        QueryError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ClosedConnection
            // A failover has left us with a replica.
            | DatabaseErrorKind::ReadOnlyTransaction
            // The other transaction won; ours may follow.
            | DatabaseErrorKind::SerializationFailure => true,
            DatabaseErrorKind::Unknown => is_outage_text(information.message()),
            _ => false,
        },
        // The connection was lost within the transaction.
        QueryError::BrokenTransactionManager => true,
        QueryError::RollbackErrorOnCommit { commit_error, .. } => is_outage(commit_error),
        _ => false,
    }
}

/// What the databases say in an outage; diesel passes on neither SQLSTATE nor SQLite's codes for these.
const OUTAGES: [&str; 19] = [
    // PostgreSQL
    "server closed the connection",
    "connection to server",
    "terminating connection",
    "the database system is",
    "too many clients",
    "remaining connection slots",
    "no space left on device",
    "out of shared memory",
    "deadlock detected",
    "canceling statement due to conflict with recovery",
    "could not receive data from server",
    "could not send data to server",
    // SQLite
    "database is locked",
    "database table is locked",
    "database or disk is full",
    "disk i/o error",
    "unable to open database file",
    "attempt to write a readonly database",
    "out of memory",
];

fn is_outage_text(message: &str) -> bool {
    let message = message.to_lowercase();
    OUTAGES.iter().any(|outage| message.contains(outage)) || is_damage(&message)
}

/// Whether SQLite refused because another holds the file.
pub(super) fn is_locked(error: &QueryError) -> bool {
    matches!(error, QueryError::DatabaseError(_, information) if information.message() == "database is locked")
}

/// Whether SQLite says that the file itself is no sound database.
pub(super) fn is_damage(message: &str) -> bool {
    message.contains("malformed") || message.contains("not a database")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: DatabaseErrorKind, message: &str) -> DatabaseError {
        QueryError::DatabaseError(kind, Box::new(message.to_owned())).into()
    }

    #[test]
    fn an_outage_is_told_apart_from_a_query_at_fault() {
        use DatabaseErrorKind as Kind;
        for (kind, message, unavailable) in [
            (Kind::ClosedConnection, "", true),
            (Kind::Unknown, "terminating connection due to administrator command", true),
            (Kind::Unknown, "could not extend file \"base/1/2\": No space left on device", true),
            (Kind::Unknown, "the database system is shutting down", true),
            (Kind::Unknown, "database is locked", true),
            (Kind::Unknown, "database or disk is full", true),
            (Kind::Unknown, "database disk image is malformed", true),
            (Kind::Unknown, "canceling statement due to statement timeout", false),
            (Kind::Unknown, "no such table: runs", false),
            (Kind::UniqueViolation, "UNIQUE constraint failed: runs.id", false),
            (Kind::NotNullViolation, "", false),
        ] {
            assert_eq!(query(kind, message).is_unavailable(), unavailable, "{message}");
        }
        assert!(!DatabaseError::from(QueryError::NotFound).is_unavailable());
        assert!(query(Kind::Unknown, "canceling statement due to statement timeout").is_too_slow());
        assert!(DatabaseError::from(QueryError::BrokenTransactionManager).is_unavailable());
    }
}
