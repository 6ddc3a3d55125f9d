//! How long the texts may be that travel with a run.
//!
//! A message of the bus holds 16 MiB. The request of a run brings a prompt and a system prompt to the runner; its record
//! brings the prompt back, with an output and a log of 10 MiB together. A character takes four bytes at most, so that
//! two texts of the length below leave room for the rest of either.

/// Most characters of a prompt and of a system prompt.
pub(crate) const PROMPT_CHARS_MAX: usize = 128 * 1024;
/// Most characters of a description, which only people read.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 64 * 1024;
