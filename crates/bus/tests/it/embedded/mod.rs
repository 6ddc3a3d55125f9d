//! The embedded bus: held to the contract, and to what only it promises.

mod file;
mod kill;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bus::embedded::EmbeddedBus;
use bus::{Bus, BusError};
use tempfile::TempDir;

use crate::contract::{Installation, contract_suite, soon};

contract_suite!(EmbeddedInstallation);

/// Opens a bus whose file nobody has any more. A process that another test is just starting still has what was open
/// here when it was forked, for a moment.
async fn open(path: &Path) -> EmbeddedBus {
    let opened = async {
        loop {
            match EmbeddedBus::open(path) {
                Err(BusError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                opened => return opened.unwrap(),
            }
        }
    };
    soon(opened).await
}

/// A bus in a directory of its own.
struct EmbeddedInstallation {
    directory: TempDir,
    crashes: AtomicUsize,
}

impl EmbeddedInstallation {
    fn path(&self) -> PathBuf {
        self.directory.path().join(format!("bus-{}.sqlite", self.crashes.load(Ordering::SeqCst)))
    }
}

#[async_trait]
impl Installation for EmbeddedInstallation {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), crashes: AtomicUsize::new(0) }
    }

    async fn open(&self) -> Arc<dyn Bus> {
        Arc::new(open(&self.path()).await)
    }

    /// Opens a copy of the files as they are while the old bus is still open: just what a crash would leave.
    async fn crash_and_reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        let with_wal = |path: PathBuf| [path.clone(), path.with_extension("sqlite-wal")];
        let old = with_wal(self.path());
        self.crashes.fetch_add(1, Ordering::SeqCst);
        for (from, to) in old.iter().zip(with_wal(self.path())) {
            std::fs::copy(from, to).unwrap();
        }
        drop(bus);
        self.open().await
    }
}
