//! Messages as another version would send them, in bytes: in a rolling upgrade both versions are on the bus.

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// A protobuf message written field by field: one of an older version has only the fields that it knew.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number that is not negative, or a truth.
    #[must_use]
    pub fn number(mut self, field: u8, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    /// A text.
    #[must_use]
    pub fn text(self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message within.
    #[must_use]
    pub fn message(self, field: u8, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// A moment, to the second.
    #[must_use]
    pub fn time(self, field: u8, time: DateTime<Utc>) -> Self {
        self.message(field, &Self::new().number(1, time.timestamp().unsigned_abs()))
    }

    /// The body of a message.
    #[must_use]
    pub fn body(self) -> Bytes {
        self.0.into()
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn key(&mut self, field: u8, kind: u8) {
        self.varint(u64::from(field) << 3 | u64::from(kind));
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7F {
            self.0.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7F) as u8);
    }
}

/// The same message with a field that no version of ours has yet: number 1000, a text.
#[must_use]
pub fn newer(body: &[u8]) -> Bytes {
    [body, &[0xC2, 0x3E, 3], b"new"].concat().into()
}

/// A newer message that also has, wherever `word` stands, a word that no version of ours has yet.
///
/// # Panics
///
/// The word is not in the message: the test would prove nothing.
#[must_use]
pub fn with_new_word(body: &[u8], word: &str) -> Bytes {
    let (mut bytes, word) = (newer(body).to_vec(), word.as_bytes());
    let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(word)).collect();
    assert!(!places.is_empty(), "the word is not in the message");
    places.into_iter().for_each(|place| bytes[place..place + word.len()].fill(b'z'));
    bytes.into()
}
