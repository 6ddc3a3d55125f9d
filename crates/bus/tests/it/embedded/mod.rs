//! The embedded bus: held to the contract, and to what only it promises.

mod file;
mod kill;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bus::Bus;
use bus::embedded::EmbeddedBus;
use tempfile::TempDir;

use crate::contract::{Installation, contract_suite};

contract_suite!(EmbeddedInstallation);

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
        Arc::new(EmbeddedBus::open(&self.path()).unwrap())
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
