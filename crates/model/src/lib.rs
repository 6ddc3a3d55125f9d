//! The words of Carillon: ids, crontabs, documents, runs, and the events that carry them.
//!
//! No I/O, no clock of its own, no knowledge of databases, brokers or HTTP.

mod codec;
pub mod crontab;
pub mod document;
pub mod event;
pub mod id;
pub mod internal;
pub mod metric;
pub mod run;
mod run_state;
pub mod schedule;
pub mod service;
pub mod wire;
pub mod word;
