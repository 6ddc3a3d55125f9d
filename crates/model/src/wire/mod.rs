//! The bytes of the bus: protobuf on the outside, the words of the domain on the inside.
//!
//! The contract is `proto/carillon/v1/events.proto`. What is missing or unknown in a message is an error that names the
//! field; what an older sender does not know yet has a default that means "as before".
//!
//! While versions run side by side, a newer one may use words that this one does not know. None of them makes a message
//! a dead letter, since nothing but this reader is behind:
//!
//! - a trigger is read as `schedule`, a policy as its default, a status to wait for as `success`;
//! - a reason is read as `unknown`, a result's status as `error`; a run's state is told by its times and its result;
//! - a kind of document is passed over, and so not held: it is announced until a version that knows it holds it;
//! - so is a document that cannot be read, as one with a time zone that only newer data has ([`read_documents`]);
//! - a failure of a service's call is read as `unknown`;
//! - a receiver that this version does not wait for says nothing to it.

mod documents;
mod readable;
mod runs;
mod services;

#[expect(unreachable_pub, clippy::large_enum_variant, reason = "generated: the contract itself has the comments")]
#[rustfmt::skip]
#[path = "carillon.v1.rs"]
mod generated;

use chrono::{DateTime, Utc};

pub use crate::codec::{Wire, WireError};
pub use crate::event::decode_event;
pub use readable::{ReadDocuments, UnreadableDocument, read_documents};

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

/// A word, or what stands for one that only a newer version knows, and for none at all of an older one.
fn to_word_or<T: std::str::FromStr>(word: &str, unknown: T) -> T {
    word.parse().unwrap_or(unknown)
}

fn all_from<T: Wire>(messages: Vec<T::Message>) -> Result<Vec<T>, WireError> {
    messages.into_iter().map(T::from_message).collect()
}

fn all_to<T: Wire>(values: &[T]) -> Vec<T::Message> {
    values.iter().map(T::to_message).collect()
}
