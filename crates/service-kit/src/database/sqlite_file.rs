//! The file of a SQLite database: made if need be, refused with a reason if it cannot be used.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::DatabaseError;
use super::error::{is_damage, is_locked};

/// A larger file is not read through at start: that would take longer than an operator waits.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// WAL lets readers go on while one writes; FULL survives a power cut; a writer of another process is waited for.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;";

/// How long, and how often, the switch of a new file to WAL is tried.
const SWITCH_WAIT_MAX: Duration = Duration::from_secs(5);
const SWITCH_POLL: Duration = Duration::from_millis(5);

/// The file that a URL of SQLite names: `sqlite:path`, `sqlite://path` or `sqlite:///absolute/path`. None: it is another.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// The same as a path, if it is one.
pub(super) fn path_of(url: &str) -> Result<PathBuf, DatabaseError> {
    let path = sqlite_file(url).unwrap_or_default();
    if path.is_empty() || path.starts_with(':') || path.starts_with("file:") {
        // Every connection to a database in memory would see one of its own.
        return Err(DatabaseError::Url(format!("must name a file after `sqlite:`, got `{path}`")));
    }
    Ok(PathBuf::from(path))
}

/// Makes the file and its folder, for this user only, and sees that it can be written and is sound.
pub(super) fn prepare(path: &Path) -> Result<(), DatabaseError> {
    let size = create(path).map_err(|source| DatabaseError::File { path: path.to_owned(), source })?;
    let mut connection = connect(path)?;
    if size > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let check = diesel::dsl::sql::<Text>("PRAGMA quick_check(1)");
    let verdict = check.get_result::<String>(&mut connection);
    match verdict.map_err(|error| refusal(path, &error.to_string()))?.as_str() {
        "ok" => Ok(()),
        reason => Err(damaged(path, reason)),
    }
}

/// Opens the file as every connection to it must be.
///
/// SQLite does not wait for another that switches a new file to WAL at the same moment, whatever its `busy_timeout`:
/// two that each wait for the other to let go of the file would wait for ever. So it is asked again.
pub(super) fn connect(path: &Path) -> Result<SqliteConnection, DatabaseError> {
    let mut connection =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| refusal(path, &error.to_string()))?;
    let began = Instant::now();
    loop {
        match connection.batch_execute(PRAGMAS) {
            Ok(()) => return Ok(connection),
            Err(error) if is_locked(&error) && began.elapsed() < SWITCH_WAIT_MAX => thread::sleep(SWITCH_POLL),
            Err(error) => return Err(refusal(path, &error.to_string())),
        }
    }
}

/// Asks the system first: what it answers says more than SQLite's "unable to open the database file".
fn create(path: &Path) -> io::Result<u64> {
    let mut folder = DirBuilder::new();
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folder.mode(0o700);
        file.mode(0o600);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder.recursive(true).create(parent)?;
    }
    Ok(file.append(true).create(true).open(path)?.metadata()?.len())
}

fn refusal(path: &Path, reason: &str) -> DatabaseError {
    if is_damage(reason) {
        return damaged(path, reason);
    }
    DatabaseError::Unreachable { database: format!("sqlite:{}", path.display()), reason: reason.to_owned() }
}

fn damaged(path: &Path, reason: &str) -> DatabaseError {
    DatabaseError::Damaged { path: path.to_owned(), reason: reason.replace('\n', " ") }
}
