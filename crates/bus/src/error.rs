//! Why the bus did not do as asked.

use std::path::PathBuf;

use model::event::EventKind;

use crate::message::BODY_BYTES_MAX;

/// What lies behind an error: a database's, a broker's or the operating system's own.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why messages were not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue gets events of this kind; nothing was published.
    #[error("no queue is bound to `{0}`: broadcast it, or bind a queue to it")]
    Unroutable(EventKind),
    /// A body is larger than any implementation carries; nothing was published.
    #[error("a body of {bytes} bytes is more than a message may have ({BODY_BYTES_MAX}): make it smaller")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
    /// The bus was closed, as happens at the end of the process.
    #[error("the bus is closed")]
    Closed,
    /// The bus could not store them now: publish the same messages again later. Some may have been stored.
    #[error("the bus could not store the messages: publish them again later")]
    Unavailable(#[source] Cause),
}

/// Why anything else did not happen.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus was closed, as happens at the end of the process.
    #[error("the bus is closed")]
    Closed,
    /// The bus could not do it now. What was to be settled is back in its queue and will be delivered again.
    #[error("the bus is not available: try again later")]
    Unavailable(#[source] Cause),
    /// The URL names no bus.
    #[error(
        "`bus.url` is not the URL of a bus: `sqlite:<file>` for one process, \
         `amqp://<user>:<password>@<host>:<port>/<virtual host>` (or `amqps://`) for RabbitMQ"
    )]
    Url,
    /// The broker answered, and wants none of it.
    #[error("the broker {broker} of `bus.url` refuses: {reason}")]
    Refused {
        /// Where it is, without credentials.
        broker: String,
        /// What it says, and what to do.
        reason: String,
    },
    /// The file of the embedded bus cannot be opened.
    #[error("cannot open the bus `{path}`: its directory must exist and be writable for this user")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database or the operating system said.
        #[source]
        source: Cause,
    },
    /// The file of the embedded bus belongs to another process.
    #[error("another carillon uses the bus `{path}`: stop that process, or give this one a data directory of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file of the embedded bus cannot be read.
    #[error(
        "the bus `{path}` is damaged ({detail}): stop carillon and restore the file, or move it away together with its \
         `-wal`; a bus that starts empty loses no result, the microservices send again what is still wanted"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file of the embedded bus was written by a newer version.
    #[error("the bus `{path}` has format {found}, and this carillon reads {known}: use the newer carillon again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: i32,
        /// The format that this version writes.
        known: i32,
    },
}
