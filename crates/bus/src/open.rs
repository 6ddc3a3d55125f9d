//! Which bus a URL names.

use std::path::Path;
use std::sync::Arc;

use crate::bus::Bus;
use crate::embedded::EmbeddedBus;
use crate::error::BusError;
use crate::rabbitmq::{DEFAULT_PREFIX, RabbitMqBus};

/// Opens the bus that a URL names: `sqlite:<file>` (or `sqlite://<file>`, as for databases), or `amqp://` and `amqps://`
/// for RabbitMQ.
///
/// # Errors
///
/// The URL names none, or what it names cannot be opened or refuses. A broker that cannot be reached at present is no
/// error, see [`RabbitMqBus::open`].
pub async fn open(url: &str) -> Result<Arc<dyn Bus>, BusError> {
    match url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(EmbeddedBus::open(Path::new(path.strip_prefix("//").unwrap_or(path)))?)),
        None => Ok(Arc::new(RabbitMqBus::open(url, DEFAULT_PREFIX).await?)),
    }
}
