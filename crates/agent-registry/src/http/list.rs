//! Reading a list, which takes only so long: whoever searches among millions is told how to narrow it.

use std::time::Duration;

use actix_web::http::StatusCode;
use service_kit::database::{DatabaseError, DbConnection};
use service_kit::error::ApiError;

use crate::state::State;

/// How long a statement of a list may take on PostgreSQL, and a search on SQLite. With indexed filters none comes near.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Why there is no list.
pub(super) enum ListError {
    Refused(ApiError),
    Database(DatabaseError),
}

/// Reads a list.
pub(super) async fn read_list<T, F>(state: &State, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&mut DbConnection) -> Result<T, ListError> + Send + 'static,
{
    state.db.read_within(TIME_MAX, work).await.map_err(|error| match error {
        ListError::Refused(error) => error,
        ListError::Database(error) if error.is_too_slow() => {
            tracing::info!(limit = ?TIME_MAX, "a list was given up: its search or order takes too long");
            too_slow()
        }
        ListError::Database(error) => error.into(),
    })
}

fn too_slow() -> ApiError {
    let seconds = TIME_MAX.as_secs();
    let detail = format!(
        "This list takes longer than {seconds} seconds. Narrow it by a filter, as periodic_agent, mentor_id, status or \
         username, or from and to of the audit log, or leave out search, ordering and metadata_key."
    );
    ApiError::detail(StatusCode::BAD_REQUEST, detail)
}

impl From<ApiError> for ListError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<DatabaseError> for ListError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<diesel::result::Error> for ListError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}
