//! The real binaries over a real PostgreSQL and a real RabbitMQ: what they refuse, and how they deal with what nobody
//! can read. `make test` starts the servers and runs this.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod containers;
mod dead_letters;
mod place;
mod refusals;
mod tls;
