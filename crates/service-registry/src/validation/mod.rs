//! Reads requests: all faults of a request at once, each with the place where it is.
//!
//! Nothing here knows the database; what needs it is looked up by whoever applies what was read.

pub(crate) mod connection;
pub(crate) mod fields;
pub(crate) mod group;
pub(crate) mod list;
pub(crate) mod service;
mod words;
