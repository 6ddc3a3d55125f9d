//! Says while a SQLite database cannot be written: whoever looks at `/readyz` should hear of a full disk.
//!
//! What fails for want of a database shows where it fails; but a microservice that only answers requests would be ready
//! all the same. A PostgreSQL server has a disk of its own, which is watched where it is.

use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use tokio_util::sync::CancellationToken;

use super::{Backend, DatabaseError, Db, DbConnection};
use crate::admin::Condition;
use crate::clock::Clock;
use crate::error::chain;

/// How long after a failure it is tried whether something can be written again.
const RETRY: Duration = Duration::from_secs(1);

impl Db {
    /// Runs until `shutdown`. `condition` is met, but from the moment in which SQLite could not do its work (the disk is
    /// full, cannot be read, or the file is locked) until something can be written again.
    pub async fn watch(&self, condition: Condition, clock: Clock, shutdown: CancellationToken) {
        condition.met();
        let watching = async {
            match self.backend() {
                Backend::Sqlite => self.watch_writes(&condition, &clock).await,
                Backend::Postgres => std::future::pending().await,
            }
        };
        shutdown.run_until_cancelled(watching).await;
    }

    async fn watch_writes(&self, condition: &Condition, clock: &Clock) {
        let mut seen = 0;
        loop {
            self.losses().more_than(seen).await;
            condition.unmet("it cannot be written: is its disk full?");
            loop {
                clock.sleep(RETRY).await;
                seen = self.losses().count();
                match self.write(write_nothing).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(error = %chain(&error), "the database cannot be written yet"),
                }
            }
            condition.met();
        }
    }
}

/// Writes a page, and nothing new in it.
fn write_nothing(connection: &mut DbConnection) -> Result<(), DatabaseError> {
    let version: i32 = sql::<Integer>("PRAGMA user_version").get_result(connection)?;
    diesel::sql_query(format!("PRAGMA user_version = {version}")).execute(connection)?;
    Ok(())
}
