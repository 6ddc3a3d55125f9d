//! The dispatcher through its doors: the bus and internal HTTP, on SQLite and the embedded bus.

mod cancelling;
mod catching_up;
mod chains;
mod creators;
mod edit_moments;
mod edits;
mod fairness;
mod firing;
mod harness;
mod joining;
mod judging;
mod large_batches;
mod ledger;
mod limits;
mod migrating;
mod neighbours;
mod outage;
mod overlapping;
mod pausing;
mod races;
mod resending;
mod retrying;
mod skipping;
mod small_tables;
mod triggering;
mod zone_changes;
