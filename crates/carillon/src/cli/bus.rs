//! `carillon bus`: what it takes.

use clap::{Args, Subcommand};

use super::{Output, Place};

/// `carillon bus …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BusCommand {
    /// Print how much waits in each queue.
    #[command(after_help = "Example:\n  carillon bus status --output json")]
    Status(BusStatusArguments),
    /// Print the next messages of a queue as JSON, a line each, and leave them there.
    #[command(after_help = "Example:\n  carillon bus peek agent-runner.runs --count 3")]
    Peek(BusPeekArguments),
    /// Messages that were given up.
    #[command(after_help = "Example:\n  carillon bus dead-letters list agent-runner.runs")]
    DeadLetters {
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
}

/// `carillon bus dead-letters …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Print them as JSON, a line each, with their reasons.
    #[command(after_help = "Example:\n  carillon bus dead-letters list agent-runner.runs --count 10")]
    List(BusPeekArguments),
    /// Send them back to the end of their queue, as if they had never failed.
    #[command(after_help = "Example:\n  carillon bus dead-letters requeue agent-runner.runs")]
    Requeue(BusQueueArguments),
    /// Throw them away.
    #[command(after_help = "Example:\n  carillon bus dead-letters discard agent-runner.runs")]
    Discard(BusQueueArguments),
}

/// Which bus.
#[derive(Debug, Args)]
pub(crate) struct BusPlace {
    /// The bus [default: `bus.url` of the configuration, else the data directory's, which no process may have open].
    #[arg(long, value_name = "URL", env = "CARILLON__BUS__URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `carillon bus status`.
#[derive(Debug, Args)]
pub(crate) struct BusStatusArguments {
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) bus: BusPlace,
}

/// Some messages of a queue.
#[derive(Debug, Args)]
pub(crate) struct BusPeekArguments {
    /// The queue, as agent-runner.runs.
    pub(crate) queue: ::bus::Queue,
    /// How many at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) count: u16,
    #[command(flatten)]
    pub(crate) bus: BusPlace,
}

/// A queue.
#[derive(Debug, Args)]
pub(crate) struct BusQueueArguments {
    /// The queue, as agent-runner.runs.
    pub(crate) queue: ::bus::Queue,
    #[command(flatten)]
    pub(crate) bus: BusPlace,
}
