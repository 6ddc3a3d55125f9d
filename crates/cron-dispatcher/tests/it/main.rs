//! The dispatcher through its doors: the bus and internal HTTP, on SQLite and the embedded bus.

mod chains;
mod edits;
mod fairness;
mod firing;
mod harness;
mod judging;
mod neighbours;
mod resending;
mod triggering;
