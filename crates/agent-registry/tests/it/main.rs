//! The registry through its public doors: HTTP, the bus, and a dispatcher that the tests play themselves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod agents;
mod announcements;
mod bad_input;
mod callbacks;
mod deliverer_peer;
mod dispatcher_peer;
mod harness;
mod lists;
mod mentors;
mod neighbours;
mod one_off;
mod run_log;
mod secrets;
mod trigger;
