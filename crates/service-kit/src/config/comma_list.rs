//! Lists that an environment variable can hold: `a, b` as well as a TOML array.
//!
//! For fields: `#[serde(with = "service_kit::config::comma_list")]`.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

/// Reads `a, b` or `["a", "b"]`; nothing between commas is left out.
///
/// # Errors
///
/// The first item that is none, by its text.
pub fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

/// Writes an array of strings.
///
/// # Errors
///
/// Only those of the serializer.
pub fn serialize<S: Serializer, T: Display>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().map(ToString::to_string))
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: Display>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or a string with commas")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<String>()? {
            items.push(parse(&item)?);
        }
        Ok(items)
    }
}

fn parse<T: FromStr<Err: Display>, E: Error>(item: &str) -> Result<T, E> {
    item.parse().map_err(|error| E::custom(format_args!("`{item}` is not understood: {error}")))
}
