//! The behaviour of the kit as microservices see it.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed")]

mod database;
mod key_set;
mod notes;
mod server;
