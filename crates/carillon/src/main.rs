//! `carillon`: Carillon whole in one process, and its command line.

mod backup;
mod bootstrap;
mod bus_commands;
mod cli;
mod config;
mod cron;
mod data_dir;
mod demo;
mod keys;
mod ledger;
mod operator;
mod output;
#[cfg(test)]
mod reference;
mod republish;
mod token;
mod up;
mod verify_signature;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, CronCommand, KeysCommand, LedgerCommand};
use crate::output::ReaderGone;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(arguments) => up::up(&arguments),
        Command::Bootstrap(arguments) => asking(bootstrap::bootstrap(&arguments)),
        Command::Token(arguments) => token::token(&arguments),
        Command::Cron { command: CronCommand::Next(arguments) } => cron::next(&arguments),
        Command::Keys { command: KeysCommand::Env(arguments) } => keys::env(&arguments),
        Command::VerifySignature(arguments) => verify_signature::verify(&arguments),
        Command::Bus { command } => bus_commands::run(&command),
        Command::Ledger { command: LedgerCommand::Verify(arguments) } => ledger::verify(&arguments),
        Command::Backup(arguments) => backup::backup(&arguments),
        Command::Restore(arguments) => asking(backup::restore(&arguments)),
        Command::Republish(arguments) => asking(republish::republish(&arguments)),
        Command::Status(arguments) => asking(operator::status::run(&arguments)),
        Command::Doctor(arguments) => asking(operator::doctor::run(&arguments)),
        Command::Keys { command: KeysCommand::Status(arguments) } => asking(operator::doctor::keys_status(&arguments)),
        Command::LogLevel(arguments) => asking(operator::log_level::run(&arguments)),
        Command::Agents { command } => asking(operator::agents::run(&command)),
        Command::Runs { command } => asking(operator::runs::run(&command)),
        Command::Deliveries { command } => asking(operator::deliveries::run(&command)),
        Command::Completion { shell } => completion(shell),
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

/// Runs a command that asks others.
fn asking(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "carillon", &mut script);
    output::print(String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
