//! Printing to standard output.

use std::fmt;
use std::io::{self, Write};

/// Nobody reads the output any more, as after `| head`: no failure, but no reason to go on either.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints `text` as it is. `println!` would panic where the reader has gone away.
///
/// # Errors
///
/// [`ReaderGone`], or that the output cannot be written.
pub(crate) fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        done => Ok(done?),
    }
}
