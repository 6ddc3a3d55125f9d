//! The bytes of the bus: protobuf on the outside, the words of the domain on the inside.
//!
//! The contract is `proto/carillon/v1/events.proto`. What is missing or unknown in a message is an error that names the
//! field; what an older sender does not know yet has a default that means "as before".

mod documents;
mod runs;

#[expect(unreachable_pub, reason = "generated: the contract itself has the comments")]
#[rustfmt::skip]
#[path = "carillon.v1.rs"]
mod generated;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;

use crate::event::{Event, EventKind};

/// Bytes that do not say what they should.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not protobuf at all.
    #[error("the bytes are no {message} message")]
    Malformed {
        /// The protobuf message that was expected.
        message: &'static str,
        /// Where reading stopped.
        #[source]
        cause: prost::DecodeError,
    },
    /// A field without which the message says nothing.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field with a value that has no meaning here.
    #[error("field `{field}`: {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// Why not.
        reason: String,
    },
    /// A message of another kind than the consumer handles.
    #[error("`{0}` is not handled here")]
    Unexpected(EventKind),
}

impl WireError {
    fn invalid(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { field, reason: reason.to_string() }
    }
}

/// A domain type that has a protobuf message.
pub trait Wire: Sized {
    /// The generated message.
    #[doc(hidden)]
    type Message: prost::Message + Default + prost::Name;

    /// As a protobuf message.
    #[doc(hidden)]
    fn to_message(&self) -> Self::Message;

    /// From a protobuf message.
    ///
    /// # Errors
    ///
    /// A field is missing or has no meaning.
    #[doc(hidden)]
    fn from_message(message: Self::Message) -> Result<Self, WireError>;

    /// The bytes of this value.
    fn encode(&self) -> Bytes {
        self.to_message().encode_to_vec().into()
    }

    /// Reads it back.
    ///
    /// # Errors
    ///
    /// The bytes are no such message, or a field is missing or has no meaning.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let message = Self::Message::decode(bytes)
            .map_err(|cause| WireError::Malformed { message: <Self::Message as prost::Name>::NAME, cause })?;
        Self::from_message(message)
    }
}

/// Reads an event out of a message of `kind`.
///
/// # Errors
///
/// The message is of another kind, or its bytes are not readable.
pub fn decode_event<E: Event>(kind: EventKind, body: &[u8]) -> Result<E, WireError> {
    if kind == E::KIND { E::decode(body) } else { Err(WireError::Unexpected(kind)) }
}

fn to_timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default();
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

fn to_time(field: &'static str, value: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>, WireError> {
    let read = |stamp: prost_types::Timestamp| {
        let nanos = u32::try_from(stamp.nanos).map_err(|_| WireError::invalid(field, "nanoseconds below zero"))?;
        DateTime::from_timestamp(stamp.seconds, nanos).ok_or_else(|| WireError::invalid(field, "no such moment"))
    };
    value.map(read).transpose()
}

fn required_time(field: &'static str, value: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, WireError> {
    to_time(field, value)?.ok_or(WireError::Missing(field))
}

fn to_word<T: std::str::FromStr<Err = crate::word::UnknownWord>>(
    field: &'static str,
    word: &str,
) -> Result<T, WireError> {
    word.parse().map_err(|unknown| WireError::invalid(field, unknown))
}

fn all_from<T: Wire>(messages: Vec<T::Message>) -> Result<Vec<T>, WireError> {
    messages.into_iter().map(T::from_message).collect()
}

fn all_to<T: Wire>(values: &[T]) -> Vec<T::Message> {
    values.iter().map(T::to_message).collect()
}
