//! What is kept: endpoints, deliveries with their bodies, delivery attempts, and the name of the installation.
//!
//! One rule holds in `deliveries`: `due_at` is the next moment at which somebody has to look at the row. While a
//! process makes a delivery attempt (`lease_owner`), that is the end of its lease, so that a lease which is not
//! answered for runs out by itself: the row is simply due again. A final row is never due.

pub(crate) mod claim;
pub(crate) mod endpoints;
pub(crate) mod installation;
pub(crate) mod intake;
pub(crate) mod listing;
pub(crate) mod record;
pub(crate) mod retention;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use service_kit::database::{Migrations, Timestamp, Uid};
use uuid::Uuid;

/// A delivery in the hands of this process: all that one delivery attempt needs.
#[derive(Debug, Clone)]
pub(crate) struct Leased {
    pub(crate) id: i64,
    pub(crate) webhook_id: Uuid,
    pub(crate) agent_id: i64,
    pub(crate) log_id: Option<i64>,
    pub(crate) organisation: String,
    /// When the delivery was made.
    pub(crate) created_at: DateTime<Utc>,
    /// The delivery attempt that this lease is for, from 1.
    pub(crate) number: i32,
    pub(crate) body: String,
    pub(crate) target: Target,
}

/// Where a delivery goes, as held at the moment of the lease.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) sealed_secret: Vec<u8>,
}

impl std::fmt::Debug for Target {
    /// Without the URL, whose query may be a credential, and without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// Who takes leases, and until when one taken now holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lessee {
    pub(crate) owner: Uid,
    pub(crate) now: Timestamp,
    pub(crate) until: Timestamp,
}

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The migrations of both databases.
pub(crate) fn migrations() -> Migrations {
    Migrations { postgres: POSTGRES, sqlite: SQLITE }
}
