//! For tests only: a real Carillon on free ports, whole or distributed, receivers that check what arrives, conditions
//! to await.
//!
//! Nothing here knows the inside of a microservice: tests look at Carillon the way that its users do.

mod api;
mod backends;
mod broker;
mod carillon;
mod collector;
mod condition;
mod gated_bus;
mod ledger;
mod neighbour;
mod proxy;
mod receiver;
mod replica;
mod scans;
mod services;
mod stack;

pub use api::Api;
pub use backends::Backends;
pub use carillon::{Carillon, Setup};
pub use collector::{Collector, ReadSpan};
pub use condition::until;
pub use gated_bus::{Gate, GatedBus};
pub use ledger::{Forgotten, Ledger, Report};
pub use neighbour::{Fields, newer, with_new_word};
pub use proxy::Proxy;
pub use receiver::{Callback, Receiver};
pub use replica::{Replica, free_address};
pub use scans::Scans;
pub use services::{Server, Services};
pub use stack::{Plan, Stack};
