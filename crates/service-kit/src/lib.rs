//! What every microservice of Carillon stands on: configuration, database, secrets, authentication, error bodies,
//! HTTP, outgoing requests, clock, supervision, sweeping and telemetry.
//!
//! It knows no microservice: no table, no route and no event of theirs. Everything that a part needs comes in as an
//! argument, so that several microservices, or several of one, run in one process and in one test. The exceptions are
//! the subscriber and the metrics recorder in [`telemetry`], which a process can have only once.

#[cfg(all(feature = "bundled-libpq", feature = "libpq"))]
compile_error!("the features `bundled-libpq` and `libpq` exclude each other: add `--no-default-features`");
#[cfg(not(any(feature = "bundled-libpq", feature = "libpq")))]
compile_error!("there is no libpq: choose the feature `bundled-libpq` or `libpq`");

pub mod admin;
pub mod api_docs;
pub mod auth;
pub mod clock;
pub mod config;
pub mod database;
pub mod doctor;
pub mod egress;
pub mod error;
pub mod http;
pub mod process;
pub mod secrets;
pub mod signed_link;
pub mod supervise;
pub mod sweep;
pub mod telemetry;
pub mod traces;
