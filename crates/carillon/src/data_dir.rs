//! The data directory: databases, bus and keys of an installation that is one process.
//!
//! Keys are made on the first start, each in a file of its own that only its owner may read. They are made whole under
//! another name and then named, so that a crash never leaves half a key; of two processes at once, the first to do so
//! makes the key of both.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The registry's database.
pub(crate) const REGISTRY_DATABASE: &str = "agent-registry.db";
/// Every microservice's database, in the order in which a running installation is to be copied.
pub(crate) const DATABASES: [&str; 4] =
    ["cron-dispatcher.db", "callback-deliverer.db", "service-registry.db", REGISTRY_DATABASE];

/// How often it is tried whether another process has ended.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// Where an installation keeps what it has.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// As it is, there or not.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes it if it is not there; only its owner may look inside.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let data = Self::at(path);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data.keys()).with_context(|| {
            format!("cannot make the data directory {}: choose one that you may write, with --data-dir", path.display())
        })?;
        Ok(data)
    }

    /// Takes it for this process; held for as long as the file that is returned. A process that has it may just be
    /// ending.
    pub(crate) fn lock(&self, patience: Duration) -> anyhow::Result<File> {
        let path = self.path.join("carillon.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(|| {
            format!(
                "cannot write in {}: choose a data directory that you may write, with --data-dir",
                self.path.display()
            )
        })?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // The system tells nobody when a lock is free, and to wait for it would be to wait for ever.
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(LOCK_LOOK),
                Err(TryLockError::WouldBlock) => bail!(
                    "the data directory {} is used by another carillon: stop it, or choose another with --data-dir",
                    self.path.display()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    /// The path of something in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where its keys are.
    pub(crate) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// A key, if it is there.
    pub(crate) fn find_key(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.keys().join(name);
        match fs::read_to_string(&path) {
            Ok(key) if key.trim().is_empty() => {
                bail!("the key file {} is empty: restore it from a backup", path.display())
            }
            Ok(key) => Ok(Some(key.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read the key {}", path.display())),
        }
    }

    /// A key: read, or on the first start made by `make`.
    pub(crate) fn key(&self, name: &str, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        if let Some(key) = self.find_key(name)? {
            return Ok(key);
        }
        let (key, path) = (make()?, self.keys().join(name));
        self.write_key(&path, &key).with_context(|| format!("cannot write the key {}", path.display()))?;
        // Another process may have been quicker: then it is that one's.
        self.find_key(name)?.with_context(|| format!("the key {} is gone", path.display()))
    }

    /// Writes a key where there is none, for its owner alone.
    fn write_key(&self, path: &Path, key: &str) -> std::io::Result<()> {
        let mut new = tempfile::Builder::new().suffix(".new").tempfile_in(self.keys())?;
        writeln!(new, "{key}")?;
        new.as_file().sync_all()?;
        match new.persist_noclobber(path) {
            Ok(_) => {}
            Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => {}
            Err(failed) => return Err(failed.error),
        }
        File::open(self.keys())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        assert_eq!(data.key("internal", || Ok("first".to_owned())).unwrap(), "first");
        assert_eq!(data.key("internal", || Ok("second".to_owned())).unwrap(), "first");
        let mode = fs::metadata(data.join("keys/internal")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_two_that_make_a_key_at_once_both_have_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let late = || {
            assert_eq!(data.key("internal", || Ok("first".to_owned())).unwrap(), "first");
            Ok("second".to_owned())
        };
        assert_eq!(data.key("internal", late).unwrap(), "first");
    }

    #[test]
    fn a_data_directory_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let _held = data.lock(Duration::ZERO).unwrap();
        let refused = data.lock(Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("used by another carillon"), "{refused}");
    }
}
