//! What operators do with a running Carillon from the command line, through its API, as any client may.
//!
//! [`access`] says which Carillon and as whom, [`api`] asks it, [`show`] prints what came; each other file is a command.

pub(crate) mod access;
pub(crate) mod agents;
pub(crate) mod api;
pub(crate) mod deliveries;
pub(crate) mod doctor;
pub(crate) mod log_level;
mod profiles;
pub(crate) mod runs;
pub(crate) mod show;
pub(crate) mod status;
