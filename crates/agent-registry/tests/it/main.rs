//! The registry through its public doors: HTTP, the bus, and a dispatcher that the tests play themselves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod agents;
mod announcements;
mod api_keys;
mod audit;
mod bad_input;
mod dispatcher_peer;
mod harness;
mod lists;
mod mentors;
mod neighbours;
mod one_off;
mod organisations;
mod permissions;
mod retention;
mod run_log;
mod schedule;
mod secrets;
mod trigger;
