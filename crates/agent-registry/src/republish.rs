//! Announces every document again: after another microservice was restored from a backup, and no longer holds what it
//! once said it held.

use service_kit::config::DatabaseConfig;
use service_kit::database::{DatabaseError, Db};

use crate::store::{self, documents};

/// Forgets who holds what. A registry that runs announces everything within half a minute, else when it starts; a
/// receiver that holds a document already says so again. Returns how many documents there are.
///
/// # Errors
///
/// The database cannot be opened or written.
pub async fn republish(database: &DatabaseConfig) -> Result<usize, DatabaseError> {
    let db = Db::open(database, store::MIGRATIONS).await?;
    db.write(|conn| Ok(documents::forget_holders(conn)?)).await
}
