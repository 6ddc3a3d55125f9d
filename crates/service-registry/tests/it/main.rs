//! The registry through its public door: HTTP.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod bad_input;
mod documented;
mod groups;
mod harness;
mod lists;
mod permissions;
mod routes;
mod services;
