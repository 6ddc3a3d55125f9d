//! The bytes of the bus: protobuf on the outside, the words of the domain on the inside.
//!
//! The contract is `proto/carillon/v1/events.proto`. What is missing or unknown in a message is an error that names the
//! field; what an older sender does not know yet has a default that means "as before".

mod documents;
mod runs;

#[expect(unreachable_pub, clippy::large_enum_variant, reason = "generated: the contract itself has the comments")]
#[rustfmt::skip]
#[path = "carillon.v1.rs"]
mod generated;

use chrono::{DateTime, Utc};

pub use crate::codec::{Wire, WireError};
pub use crate::event::decode_event;

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
