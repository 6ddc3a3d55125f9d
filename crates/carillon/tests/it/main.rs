//! Carillon whole: the real binary, through its public doors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod bootstrap;
mod command_line;
mod doctor;
mod kill;
mod main_job;
mod operator;
mod pause;
mod scrape;
mod services;
mod start;
mod telemetry;
