//! The registry through its public doors: HTTP, the bus, and a dispatcher that the tests play themselves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod agents;
mod announcements;
mod api_docs;
mod api_keys;
mod at_once;
mod audit;
mod bad_input;
mod callbacks;
mod created_together;
mod creators;
mod deliverer_peer;
mod dispatcher_peer;
mod documented;
mod followers;
mod forms;
mod harness;
mod idempotency;
mod large_lists;
mod large_logs;
mod list_plans;
mod lists;
mod log_links;
mod log_search;
mod looks;
mod mentors;
mod neighbours;
mod one_off;
mod orders;
mod organisations;
mod permissions;
mod policy;
mod retention;
mod run_log;
mod schedule;
mod schedule_combinations;
mod secrets;
mod service_groups;
mod slow_lists;
mod trigger;
