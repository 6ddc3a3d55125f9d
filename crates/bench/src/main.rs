//! Measures Carillon on this machine. Each part prints a table and writes it as JSON; none asserts a time.

mod lists;
mod sample;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures Carillon on this machine.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// The `carillon` to measure.
    #[arg(long, default_value = "target/release/carillon")]
    binary: PathBuf,
    /// Where the results go, one JSON file for each part.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Lists of a million agents and ten million logs on PostgreSQL, one organisation holding half of them.
    Lists(lists::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { binary, output, part } = Arguments::parse();
    match part {
        Part::Lists(options) => lists::run(&binary, &output, &options).await,
    }
}
