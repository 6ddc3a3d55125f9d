//! What travels: an event's attributes and its bytes.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use model::event::EventKind;
use uuid::Uuid;

/// The most bytes that a body may have.
///
/// RabbitMQ refuses messages above 16 MiB, and what fits one implementation must fit the other; the rest is left to
/// the attributes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024 - 64 * 1024;

/// One event on its way: the attributes of a CloudEvent, and its body.
///
/// Cloning shares the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Names this event for ever, however often it is delivered (UUID version 7).
    pub id: Uuid,
    /// What happened, and thereby which queues get it.
    pub kind: EventKind,
    /// The microservice that published it.
    pub source: String,
    /// When it happened; kept to the microsecond.
    pub time: DateTime<Utc>,
    /// The W3C trace context of whoever published it.
    pub traceparent: Option<String>,
    /// The encoded event, of which the bus understands nothing.
    pub body: Bytes,
}

impl Message {
    /// A message with a new id, without a trace context.
    ///
    /// `time` also goes into the id, so that ids sort by the millisecond. It is cut to the microsecond, which is
    /// what is kept of it on the way.
    #[must_use]
    pub fn new(kind: EventKind, source: impl Into<String>, time: DateTime<Utc>, body: impl Into<Bytes>) -> Self {
        let time = DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time);
        Self { id: new_id(time), kind, source: source.into(), time, traceparent: None, body: body.into() }
    }
}

/// Without the bytes of the body, which do not belong into logs.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("source", &self.source)
            .field("time", &self.time)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A version 7 id of that moment; moments before 1970 all count as 1970.
fn new_id(time: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, time.timestamp_subsec_nanos()))
}
