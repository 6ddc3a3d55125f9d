//! What is kept: endpoints and how well they are, organisations, deliveries with their bodies, delivery attempts,
//! replays, replicas, and the name of the installation.
//!
//! One rule holds in `deliveries`: `due_at` is the next moment at which somebody has to look at the row. While a
//! replica makes a delivery attempt (`lease_owner`), that is the end of its lease, so that a lease which is not
//! answered for runs out by itself: the row is simply due again. When a replica dies, its leases end at once
//! ([`replicas`]). A final row is never due, nor is one that is held.

pub(crate) mod backlog;
pub(crate) mod claim;
pub(crate) mod drain;
pub(crate) mod endpoints;
pub(crate) mod installation;
pub(crate) mod intake;
pub(crate) mod listing;
pub(crate) mod new_delivery;
pub(crate) mod organisations;
pub(crate) mod record;
pub(crate) mod replays;
pub(crate) mod replicas;
pub(crate) mod retention;
pub(crate) mod states;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use service_kit::database::{Migrations, Timestamp, Uid};
use url::Url;
use uuid::Uuid;

use crate::lanes::{Lane, Slot};

/// Rows of one statement: SQLite binds at most 32,766 values.
const ROWS_MAX: usize = 1_000;

/// A delivery in the hands of this process: all that one delivery attempt needs, with room for it.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) id: i64,
    pub(crate) webhook_id: Uuid,
    pub(crate) agent_id: i64,
    pub(crate) log_id: Option<i64>,
    pub(crate) organisation: String,
    pub(crate) event: String,
    pub(crate) to_alert_url: bool,
    /// When the delivery was made.
    pub(crate) created_at: DateTime<Utc>,
    /// The delivery attempt that this lease is for, from 1.
    pub(crate) number: i32,
    pub(crate) round_began_at: DateTime<Utc>,
    /// How many delivery attempts failed in this round so far.
    pub(crate) round_failures: i32,
    pub(crate) body: String,
    pub(crate) target: Target,
    pub(crate) slot: Slot,
}

impl Leased {
    /// Where it goes beside others.
    pub(crate) fn lane(&self) -> Lane {
        lane(self.to_alert_url, self.agent_id, &self.organisation)
    }
}

/// Where a delivery goes beside others.
pub(crate) fn lane(to_alert_url: bool, agent_id: i64, organisation: &str) -> Lane {
    if to_alert_url { Lane::Alerts(organisation.to_owned()) } else { Lane::Endpoint(agent_id) }
}

/// Where a delivery goes, as held at the moment of the lease.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) sealed_secret: Vec<u8>,
    /// The secret before the last rotation, and when its grace ends.
    pub(crate) previous_secret: Option<(Vec<u8>, Timestamp)>,
    pub(crate) encrypt: bool,
    pub(crate) signature_only_hub: bool,
}

impl Target {
    /// Host and port; empty of a URL that names none, and will fail.
    pub(crate) fn host(&self) -> String {
        let url = Url::parse(&self.url).ok();
        let place = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        place.map_or_else(String::new, |(host, port)| format!("{host}:{port}"))
    }
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
pub fn migrations() -> Migrations {
    Migrations { postgres: POSTGRES, sqlite: SQLITE }
}
