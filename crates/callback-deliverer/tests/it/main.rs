//! The deliverer through its doors: messages in, POSTs out, internal HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, reason = "the crate is a test binary")]

mod delivery;
mod doors;
mod endpoints;
mod health;
mod heartbeat;
mod hostile;
mod lanes;
mod late;
mod neighbours;
mod receiver;
mod recovery;
mod retention;
mod retries;
mod signatures;
mod small_tables;
mod stage;
mod transport;
