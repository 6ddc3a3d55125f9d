//! The distributed stack: every microservice its own process, over PostgreSQL and RabbitMQ.
//!
//! Needs private servers: `make test-distributed` and `make test-faults` start them and run this, one test at a time.

mod drain;
mod faults;
mod many;
mod scenario;
