//! The commands that keep an installation: its keys, its ledger, its backups, its documents.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, Place};
use crate::operator::doctor::KeysStatusArguments;

/// `carillon keys …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Print the keys that a microservice needs when it runs alone, as exports for a shell.
    Env(KeysEnvArguments),
    /// Print how many secrets are sealed with which key.
    Status(KeysStatusArguments),
}

/// `carillon keys env`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eval \"$(carillon keys env agent-runner --data-dir ./carillon-data)\"")]
pub(crate) struct KeysEnvArguments {
    /// Which one.
    #[arg(value_enum)]
    pub(crate) microservice: MicroserviceName,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A microservice that runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MicroserviceName {
    /// The public door of /api/.
    AgentRegistry,
    /// The public door of /v1beta1/.
    ServiceRegistry,
    /// Decides when a run starts and how it ended.
    CronDispatcher,
    /// Asks mentors.
    AgentRunner,
    /// Delivers results.
    CallbackDeliverer,
}

impl MicroserviceName {
    /// As everybody calls it.
    pub(crate) fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// `carillon ledger …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Recompute every tick that there should have been, and print those that are missing, double or unexplained.
    Verify(LedgerVerifyArguments),
}

/// `carillon ledger verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon ledger verify --data-dir ./carillon-data --output json\n  \
    carillon ledger verify --url postgres://carillon@db/cron_dispatcher\n\n\
    Exits 0 if every tick is accounted for, 1 if not.")]
pub(crate) struct LedgerVerifyArguments {
    /// The dispatcher's database [default: as configured, else the data directory's].
    #[arg(long, value_name = "URL", env = "CARILLON__DATABASE__CRON_DISPATCHER_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `carillon backup`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon backup /backups/carillon-2026-11-22 --data-dir ./carillon-data\n\n\
    Databases and keys, not the bus. For databases on a server use its own tools, as pg_dump.")]
pub(crate) struct BackupArguments {
    /// A directory that is not there yet, or empty.
    #[arg(value_name = "DIRECTORY")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `carillon restore`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon restore /backups/carillon-2026-11-22 --data-dir ./carillon-data\n\n\
    Ticks since the backup are made good as each schedule's catch_up says; a run that was under way is run again.")]
pub(crate) struct RestoreArguments {
    /// What `carillon backup` made.
    #[arg(value_name = "DIRECTORY")]
    pub(crate) from: PathBuf,
    /// The data directory to make: not there yet, or empty.
    #[arg(long, value_name = "DIRECTORY", default_value = "./carillon-data")]
    pub(crate) data_dir: PathBuf,
}

/// `carillon republish`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon republish --url postgres://carillon@db/agent_registry\n\n\
    Harmless at any time. A registry that runs announces them within half a minute.")]
pub(crate) struct RepublishArguments {
    /// The registry's database [default: as configured, else the data directory's].
    #[arg(long, value_name = "URL", env = "CARILLON__DATABASE__AGENT_REGISTRY_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}
