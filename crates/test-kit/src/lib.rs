//! For tests only: a real Carillon on free ports, receivers that check what arrives, conditions to await.
//!
//! Nothing here knows the inside of a microservice: tests look at Carillon the way that its users do.

mod api;
mod backends;
mod carillon;
mod condition;
mod ledger;
mod receiver;

pub use api::Api;
pub use backends::Backends;
pub use carillon::{Carillon, Setup};
pub use condition::until;
pub use ledger::{Ledger, Report};
pub use receiver::{Callback, Receiver};
