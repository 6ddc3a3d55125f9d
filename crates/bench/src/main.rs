//! Measures Carillon on this machine. Each part prints a table and writes it as JSON; none asserts a time.
//!
//! Parts run the real binaries, each microservice as a process of its own, and measure in the same run what a program
//! reaches that does nothing but the bare work. Ratios of one run therefore say more than its figures.

mod api;
mod bare;
mod bare_handler;
mod bed;
mod burst;
mod celery_beat;
mod delivery;
mod documents;
mod end_to_end;
mod fairness;
mod growth;
mod idle;
mod kills;
mod lists;
mod neighbours;
mod pace;
mod peers;
mod pipeline;
mod report;
mod requests;
mod sample;
mod sink;
mod steady;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures Carillon on this machine.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// The `carillon` to measure; the microservices stand beside it.
    #[arg(long, default_value = "target/release/carillon")]
    binary: PathBuf,
    /// Where the results go, one JSON file for each part.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Less of everything: a look, not a measurement.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Results committed to POSTs received: how many a second, how soon.
    Delivery(delivery::Options),
    /// What healthy receivers notice of others that hang.
    Neighbours(neighbours::Options),
    /// Many due at one instant: how many requests a second, how late.
    Burst(burst::Options),
    /// A deliverer killed in a flood: when the last callback comes.
    Kills(kills::Options),
    /// From ticks to verified POSTs, on both pairs: how many a second, how soon.
    EndToEnd(end_to_end::Options),
    /// What a small organisation notices of a large one that is due at the same moment.
    Fairness(fairness::Options),
    /// A thousand ticks a second for a minute: how late, and what it takes.
    Steady(steady::Options),
    /// Agents created, retrieved and listed.
    Api(api::Options),
    /// What many agents cost of which none is due.
    Idle(idle::Options),
    /// A fire among a thousand schedules, and among a million.
    Growth(growth::Options),
    /// Lists of a million agents and ten million logs on PostgreSQL, one organisation holding half of them.
    Lists(lists::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { binary, output, quick, part } = Arguments::parse();
    let binaries: &Path = binary.parent().context("--binary names no file")?;
    match part {
        Part::Delivery(options) => delivery::run(binaries, &output, quick, &options).await,
        Part::Neighbours(options) => neighbours::run(binaries, &output, quick, &options).await,
        Part::Burst(options) => burst::run(binaries, &output, quick, &options).await,
        Part::Kills(options) => kills::run(binaries, &output, quick, &options).await,
        Part::EndToEnd(options) => end_to_end::run(&binary, &output, quick, &options).await,
        Part::Fairness(options) => fairness::run(binaries, &output, quick, &options).await,
        Part::Steady(options) => steady::run(binaries, &output, quick, &options).await,
        Part::Api(options) => api::run(binaries, &output, quick, &options).await,
        Part::Idle(options) => idle::run(binaries, &output, quick, &options).await,
        Part::Growth(options) => growth::run(binaries, &output, quick, &options).await,
        Part::Lists(options) => lists::run(&binary, &output, &options).await,
    }
}
