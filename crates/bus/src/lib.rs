//! The messages between the microservices: publish, consume, broadcast, depth.
//!
//! [`Bus`] is the contract, and it is one contract whatever carries the messages. [`embedded::EmbeddedBus`] keeps them
//! in a SQLite file of its own, for the installation that is one process; [`rabbitmq::RabbitMqBus`] hands them to
//! RabbitMQ, for the installation of many. [`open`] chooses by URL.
//!
//! What every implementation promises, and `tests/it/contract` holds it to:
//!
//! - **Delivery is at least once.** A message that was confirmed is delivered until somebody settles it. It may come
//!   twice, so every handler is idempotent.
//! - **A message waits for its consumer.** The queues are fixed ([`Queue`]) and there from the first moment, so nothing
//!   is lost by publishing before the other side has started.
//! - **Only a message's own failures are counted.** A lost connection, a stopped process or a database that is away
//!   brings a message back without counting anything.
//! - **The bus is not a store.** Whoever publishes can publish again; emptied, a bus loses time, never results.
//!
//! Most code needs two things only: [`Bus::publish`], and [`run_consumer`] with a [`Handler`].

mod bus;
mod consumer;
mod consumer_loop;
mod documents;
pub mod embedded;
mod error;
mod handler;
mod message;
mod open;
pub mod rabbitmq;
mod topology;

pub use bus::{Bus, DeadLetter, Depth};
pub use consumer::{Consumer, Delivery, Subscription};
pub use consumer_loop::run_consumer;
pub use documents::documents_of;
pub use error::{BusError, Cause, PublishError};
pub use handler::{BATCH_BYTES_MAX, BATCH_MAX, ConsumeOptions, HandleError, Handler, RetryDelays};
pub use message::{BODY_BYTES_MAX, Message};
pub use open::open;
pub use topology::{Queue, UnknownQueue};

use model::metric::Metric;

/// What this crate records.
pub const METRICS: &[Metric] = &[
    Metric::counter("carillon_dead_letters_total", &["queue"], "Messages that this process gave up."),
    Metric::counter("carillon_bus_connections_lost_total", &[], "Connections to the broker that were lost."),
    Metric::counter(
        "carillon_documents_unreadable_total",
        &["kind"],
        "Documents that this version cannot read, each time that one is announced.",
    ),
];
