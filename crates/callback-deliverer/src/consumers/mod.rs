//! What this microservice hears from the others, one file a queue.

pub(crate) mod documents;
pub(crate) mod runs;

use bus::{HandleError, Message, PublishError};
use model::event::Event;
use model::wire::decode_event;
use service_kit::database::DatabaseError;
use service_kit::error::chain;

use crate::core::{Core, NAME};

/// Reads an event; what is none can never be handled.
fn decode<E: Event>(message: &Message) -> Result<E, HandleError> {
    decode_event(message.kind, &message.body).map_err(|error| HandleError::Rejected(chain(&error)))
}

/// Whose fault it is that the database did not do it.
fn database_fault(error: &DatabaseError) -> HandleError {
    if error.is_unavailable() { HandleError::Unavailable(chain(error)) } else { HandleError::Failed(chain(error)) }
}

async fn publish<E: Event>(core: &Core, event: &E) -> Result<(), HandleError> {
    let message = Message::new(E::KIND, NAME, core.clock.now(), event.encode());
    core.bus.publish(vec![message]).await.map_err(|error| match error {
        PublishError::Unavailable(_) | PublishError::Closed => HandleError::Unavailable(chain(&error)),
        PublishError::Unroutable(_) | PublishError::TooLarge { .. } => HandleError::Failed(chain(&error)),
    })
}
