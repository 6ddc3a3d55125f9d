//! `carillon`: Carillon whole in one process, and its command line.

mod bootstrap;
mod bus_commands;
mod cli;
mod config;
mod cron;
mod data_dir;
mod demo;
mod keys;
mod ledger;
mod output;
mod token;
mod up;
mod verify_signature;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, CronCommand, KeysCommand, LedgerCommand};
use crate::output::ReaderGone;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(arguments) => up::up(&arguments),
        Command::Bootstrap(arguments) => bootstrap::bootstrap(&arguments),
        Command::Token(arguments) => token::token(&arguments),
        Command::Cron { command: CronCommand::Next(arguments) } => cron::next(&arguments),
        Command::Keys { command: KeysCommand::Env(arguments) } => keys::env(&arguments),
        Command::VerifySignature(arguments) => verify_signature::verify(&arguments),
        Command::Bus { command } => bus_commands::run(&command),
        Command::Ledger { command: LedgerCommand::Verify(arguments) } => ledger::verify(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what is wrong and what to do, with its causes.
            eprintln!("carillon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
