//! The contract of the bus, held against its implementation, and what only the embedded one promises.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached, and its modules read better so")]

#[cfg(test)]
mod contract;
#[cfg(test)]
mod embedded;
