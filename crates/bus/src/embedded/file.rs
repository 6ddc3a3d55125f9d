//! Opens the file of the embedded bus: one process at a time, durable writes, and a clear word when it is damaged.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::error::BusError;

/// The format of `schema.sql`.
const FORMAT: i32 = 1;

/// `synchronous = FULL` makes a commit durable when it returns. The time-out is for an operator who looks into the
/// file with another tool; the size limit keeps the `-wal` from staying as large as it once was.
const SETTINGS: &str = "
    PRAGMA busy_timeout = 2000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -16000;
";

/// Keeps every other process out until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Locks the file, opens it, and makes its tables if it is new.
pub(super) fn open(path: &Path) -> Result<(SqliteConnection, Lock), BusError> {
    let lock = lock(path)?;
    owners_only().create(true).append(true).open(path).map_err(|error| cannot_open(path, error))?;
    let url = path.to_str().ok_or_else(|| cannot_open(path, "the path is not valid UTF-8"))?;
    let mut conn = SqliteConnection::establish(url).map_err(|error| cannot_open(path, error))?;
    conn.batch_execute(SETTINGS).map_err(|error| explain(path, error))?;
    check(&mut conn, path)?;
    prepare(&mut conn, path)?;
    Ok((conn, lock))
}

/// A failure to read the file at opening: damaged, or something about the file system.
pub(super) fn explain(path: &Path, error: diesel::result::Error) -> BusError {
    let detail = error.to_string();
    // The texts of SQLITE_CORRUPT and SQLITE_NOTADB: diesel passes no codes on.
    if detail.contains("malformed") || detail.contains("not a database") {
        return BusError::Damaged { path: path.to_owned(), detail };
    }
    cannot_open(path, error)
}

fn cannot_open(path: &Path, source: impl Into<crate::error::Cause>) -> BusError {
    BusError::Open { path: path.to_owned(), source: source.into() }
}

/// Makes files that nobody else on this host may read: there are prompts and outputs in them. SQLite gives its `-wal` and
/// `-shm` the mode of the file itself.
fn owners_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A file of its own, since SQLite's locks come and go with every transaction.
fn lock(path: &Path) -> Result<Lock, BusError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let file = owners_only().create(true).append(true).open(PathBuf::from(lock_path));
    let file = file.map_err(|error| cannot_open(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(BusError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(cannot_open(path, error)),
    }
}

/// Better to find damage now than in the middle of the night.
fn check(conn: &mut SqliteConnection, path: &Path) -> Result<(), BusError> {
    let verdict: String =
        sql::<Text>("PRAGMA quick_check(1)").get_result(conn).map_err(|error| explain(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(BusError::Damaged { path: path.to_owned(), detail: verdict }) }
}

fn prepare(conn: &mut SqliteConnection, path: &Path) -> Result<(), BusError> {
    let explain = |error| explain(path, error);
    let found: i32 = sql::<Integer>("PRAGMA user_version").get_result(conn).map_err(explain)?;
    if found == FORMAT {
        return Ok(());
    }
    if found > FORMAT {
        return Err(BusError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    let tables: i64 = sql::<BigInt>("SELECT count(*) FROM sqlite_schema").get_result(conn).map_err(explain)?;
    if tables > 0 {
        return Err(cannot_open(path, "the file is a database of something else"));
    }
    let schema = concat!("BEGIN IMMEDIATE;", include_str!("schema.sql"), "COMMIT;");
    conn.batch_execute(schema).map_err(explain)
}
