//! Secrets: values that never show themselves ([`Secret`]), and the keys that seal them at rest ([`KeyRing`]).

mod key_ring;
mod secret;

pub use key_ring::{KeyRing, OpenError, SealError};
pub use secret::Secret;
