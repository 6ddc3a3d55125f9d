//! What the registry hears: runs as they start and end, and which documents are held.

mod held;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use bus::{ConsumeOptions, HandleError, Handler, Queue, run_consumer};
use service_kit::admin::Condition;
use service_kit::database::DatabaseError;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

pub(crate) use held::Held;
pub(crate) use runs::Runs;

use crate::state::State;

/// How long messages are gathered to be stored together: what they say is shown so much later.
const GATHER: Duration = Duration::from_millis(50);

/// Consumes a queue until shutdown.
pub(crate) async fn consume(
    state: Arc<State>,
    queue: Queue,
    handler: impl Handler,
    condition: Condition,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let ready = condition.of_consumer();
    run_consumer(Arc::clone(&state.bus), queue, ConsumeOptions::gathering(GATHER), handler, ready, shutdown).await
}

/// An outage is nobody's fault; anything else is the message's, as far as one can tell.
fn failure(error: &DatabaseError) -> HandleError {
    let reason = chain(error);
    if error.is_unavailable() { HandleError::Unavailable(reason) } else { HandleError::Failed(reason) }
}
