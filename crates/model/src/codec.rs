//! Values to and from bytes: what a domain type with a protobuf message can do.

use bytes::Bytes;
use prost::Message as _;

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
    Unexpected(&'static str),
}

impl WireError {
    pub(crate) fn invalid(field: &'static str, reason: impl std::fmt::Display) -> Self {
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
        Self::from_message(decode_message(bytes)?)
    }
}

/// Reads a protobuf message.
pub(crate) fn decode_message<M: prost::Message + Default + prost::Name>(bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|cause| WireError::Malformed { message: M::NAME, cause })
}
