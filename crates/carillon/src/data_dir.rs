//! The data directory: databases, bus and keys of an installation that is one process.
//!
//! Keys are made on the first start, each in a file of its own that only its owner may read. They are made whole under
//! another name and then renamed, so that a crash never leaves half a key.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where an installation keeps what it has.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Makes it if it is not there; only its owner may look inside.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let keys = path.join("keys");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys).with_context(|| {
            format!("cannot make the data directory {}: choose one that you may write, with --data-dir", path.display())
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes it for this process; held for as long as the file that is returned.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        let path = self.path.join("carillon.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(|| {
            format!(
                "cannot write in {}: choose a data directory that you may write, with --data-dir",
                self.path.display()
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "the data directory {} is used by another carillon: stop it, or choose another with --data-dir",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The path of something in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A key: read, or on the first start made by `make`.
    pub(crate) fn key(&self, name: &str, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let path = self.path.join("keys").join(name);
        match fs::read_to_string(&path) {
            Ok(key) => return Ok(key.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read the key {}", path.display())),
        }
        let key = make()?;
        self.write_key(&path, &key).with_context(|| format!("cannot write the key {}", path.display()))?;
        Ok(key)
    }

    fn write_key(&self, path: &Path, key: &str) -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        writeln!(file, "{key}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(self.path.join("keys"))?.sync_all()
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
    fn a_data_directory_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let _held = data.lock().unwrap();
        let refused = data.lock().unwrap_err().to_string();
        assert!(refused.contains("used by another carillon"), "{refused}");
    }
}
