//! New agents that wait to be stored: those of one organisation that wait at the same time are stored together.
//!
//! Most of what it costs to store an agent is journeys to the database and a commit, and a batch makes as many as one
//! agent does. Nobody waits for company: the first is stored at once, alone, and who comes meanwhile goes with the next
//! batch. Each organisation has a queue of its own, so that none waits behind what another locks.
//!
//! In memory only: a request whose agent is still in a queue was not answered, and a crash leaves nothing of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service_kit::database::DatabaseError;
use service_kit::error::ApiError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::edit::{self, Edit, Saved};
use crate::state::State;

/// As many agents at most are stored together.
const BATCH_MAX: usize = 64;
/// Nor are more once their texts have as many bytes together; one that has more by itself goes alone.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The agents that wait, by organisation. An organisation stands here as long as somebody stores its agents.
pub(crate) struct Creations {
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
    /// Where they are stored: not where a request is answered, which ends with its client.
    runtime: Handle,
}

struct Waiting {
    edit: Edit,
    stored: oneshot::Sender<Result<Saved, ApiError>>,
}

/// Why a batch was not stored.
enum Failure {
    /// Nothing of it is there.
    Undone(ApiError),
    /// The database failed; after a commit, nobody knows.
    Database(DatabaseError),
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Undone(error) => error,
            Failure::Database(error) => error.into(),
        }
    }
}

impl Creations {
    /// Nobody waits yet. Batches are stored on this runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { waiting: Mutex::default(), runtime }
    }

    /// Takes the next batch of an organisation; without one, it is gone from the queue.
    fn take(&self, organisation: &str) -> Vec<Waiting> {
        let mut waiting = self.lock();
        let Some(queue) = waiting.get_mut(organisation) else { return Vec::new() };
        let mut room = BATCH_BYTES_MAX;
        let fits = |next: &&Waiting| {
            let bytes = next.edit.input.text_bytes();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let count = queue.iter().take(BATCH_MAX).take_while(fits).count().max(1).min(queue.len());
        let batch = queue.drain(..count).collect();
        if count == 0 {
            waiting.remove(organisation);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores a new agent, with the others of its organisation that wait for the same.
///
/// It is stored even if who asked for it waits no longer.
pub(crate) async fn store(state: &Arc<State>, edit: Edit) -> Result<Saved, ApiError> {
    let organisation = edit.acting.organisation.clone();
    let (stored, answer) = oneshot::channel();
    let waiting = Waiting { edit, stored };
    let begins = match state.creations.lock().entry(organisation.clone()) {
        Entry::Occupied(queue) => {
            queue.into_mut().push(waiting);
            false
        }
        Entry::Vacant(place) => {
            place.insert(vec![waiting]);
            true
        }
    };
    if begins {
        state.creations.runtime.spawn(store_all(Arc::clone(state), organisation));
    }
    // Who was to answer panicked, or the process ends: what became of the agent is not known.
    answer.await.unwrap_or_else(|_| Err(DatabaseError::Stopped.into()))
}

/// Stores the agents of an organisation until none waits.
async fn store_all(state: Arc<State>, organisation: String) {
    loop {
        let batch = state.creations.take(&organisation);
        if batch.is_empty() {
            return;
        }
        // A task of its own: its panic must not leave others waiting.
        let stored = state.creations.runtime.spawn(store_batch(Arc::clone(&state), batch)).await;
        if let Err(error) = stored {
            tracing::error!(organisation, %error, "new agents were not stored");
        }
    }
}

/// Stores agents together, or each alone if something is wrong with them together.
async fn store_batch(state: Arc<State>, batch: Vec<Waiting>) {
    let (edits, answers): (Vec<Edit>, Vec<_>) = batch.into_iter().map(|one| (one.edit, one.stored)).unzip();
    let edits: Arc<[Edit]> = edits.into();
    match store_together(&state, &edits, 0..edits.len()).await {
        Err(Failure::Undone(_)) if edits.len() > 1 => {
            for (index, answer) in answers.into_iter().enumerate() {
                let alone = store_together(&state, &edits, index..index + 1).await;
                let saved = alone.map_err(ApiError::from).and_then(|mut saved| saved.remove(0));
                let _ = answer.send(saved);
            }
        }
        Err(failure) => {
            let error = ApiError::from(failure);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
        Ok(saved) => {
            for (saved, answer) in saved.into_iter().zip(answers) {
                // Who asked for it may be gone.
                let _ = answer.send(saved);
            }
        }
    }
}

/// Stores these of a batch in one transaction, and has them announced.
async fn store_together(
    state: &Arc<State>,
    edits: &Arc<[Edit]>,
    which: Range<usize>,
) -> Result<Vec<Result<Saved, ApiError>>, Failure> {
    let (writer, edits) = (Arc::clone(state), Arc::clone(edits));
    let stored = state.db.write(move |conn| edit::create(conn, &writer, &edits[which]).map_err(Failure::Undone));
    let (saved, written) = stored.await?;
    state.outbox.announce(written);
    state.counted.notify_one();
    Ok(saved)
}
