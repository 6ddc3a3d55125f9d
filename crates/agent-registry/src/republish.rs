//! Announces every document again: after another microservice was restored from a backup, and no longer holds what it
//! once said it held.

use service_kit::database::{DatabaseError, Db};

use crate::store::documents;

/// Forgets who holds what. A registry that runs announces everything within half a minute, else when it starts; a
/// receiver that holds a document already says so again. Returns how many documents there are.
///
/// # Errors
///
/// The database cannot be written.
pub async fn republish(db: &Db) -> Result<usize, DatabaseError> {
    db.write(|conn| Ok(documents::forget_holders(conn)?)).await
}
