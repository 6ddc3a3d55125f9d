//! The registry through its public door: HTTP.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod bad_input;
mod callable;
mod documented;
mod etags;
mod groups;
mod harness;
mod lists;
mod numbers;
mod permissions;
mod probes;
mod routes;
mod services;
