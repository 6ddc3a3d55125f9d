//! Printing to standard output.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// How often what goes on is seen to go on.
const TICK: Duration = Duration::from_millis(100);

/// Nobody reads the output any more, as after `| head`: no failure, but no reason to go on either.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Shows how far a long command is, step by step; only on a terminal, and gone when it is dropped.
pub(crate) fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {msg}");
    let progress = ProgressBar::new(steps as u64).with_finish(ProgressFinish::AndClear);
    let progress = progress.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.enable_steady_tick(TICK);
    progress
}

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
