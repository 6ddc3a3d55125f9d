//! The runner through its public door: the bus.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached, and its modules read better so")]
#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has failed")]

mod answering;
mod bounds;
mod cancelling;
mod crashes;
mod harness;
mod joining;
mod model_server;
mod neighbours;
mod outages;
mod providers;
mod services;
mod shutdown;
mod stand_ins;
