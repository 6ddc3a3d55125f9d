//! The command line: every command, its arguments, and an example of each.

mod bus;
mod keeping;

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::bus::{BusCommand, BusPeekArguments, BusPlace, BusStatusArguments, DeadLettersCommand};
pub(crate) use self::keeping::{
    BackupArguments, KeysCommand, KeysEnvArguments, LedgerCommand, LedgerVerifyArguments, MicroserviceName,
    RepublishArguments, RestoreArguments,
};
use crate::operator::agents::AgentsCommand;
use crate::operator::deliveries::DeliveriesCommand;
use crate::operator::doctor::DoctorArguments;
use crate::operator::log_level::LogLevelArguments;
use crate::operator::runs::RunsCommand;
use crate::operator::status::StatusArguments;

/// Runs AI agents on a schedule and tells you how each run went.
#[derive(Debug, Parser)]
#[command(name = "carillon", version, propagate_version = true)]
#[command(after_help = "Example:\n  carillon up\n  carillon token --user admin --org acme --role tenant_admin")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process, on SQLite, with nothing else installed.
    Up(UpArguments),
    /// Make the first API key of a running Carillon, and print it.
    Bootstrap(BootstrapArguments),
    /// Print a token for the API.
    Token(TokenArguments),
    /// Who is up, and what waits.
    Status(StatusArguments),
    /// Look for what is wrong: versions, clocks, keys, agents that not everybody knows, what is stuck.
    Doctor(DoctorArguments),
    /// What processes log, asked and changed while they run.
    LogLevel(LogLevelArguments),
    /// An organisation's agents.
    #[command(after_help = "Example:\n  carillon agents list --org acme")]
    Agents {
        #[command(subcommand)]
        command: AgentsCommand,
    },
    /// An organisation's runs.
    #[command(after_help = "Example:\n  carillon runs list --org acme --status error")]
    Runs {
        #[command(subcommand)]
        command: RunsCommand,
    },
    /// Results on their way to receivers.
    #[command(after_help = "Example:\n  carillon deliveries list --org acme --status exhausted")]
    Deliveries {
        #[command(subcommand)]
        command: DeliveriesCommand,
    },
    /// Ask about crontabs.
    #[command(after_help = "Example:\n  carillon cron next \"0 9 * * mon-fri\" --timezone Europe/Berlin --count 3")]
    Cron {
        #[command(subcommand)]
        command: CronCommand,
    },
    /// Check the signature of a received callback.
    VerifySignature(VerifySignatureArguments),
    /// The keys of an installation.
    #[command(after_help = "Example:\n  eval \"$(carillon keys env cron-dispatcher)\"")]
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Look into the bus, and decide about its dead letters.
    #[command(after_help = "Example:\n  carillon bus status --url amqp://carillon:…@broker/%2f")]
    Bus {
        #[command(subcommand)]
        command: BusCommand,
    },
    /// The ledger of ticks.
    #[command(after_help = "Example:\n  carillon ledger verify --data-dir ./carillon-data")]
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Print what makes a shell complete these commands.
    #[command(after_help = "Example:\n  carillon completion bash > /etc/bash_completion.d/carillon")]
    Completion {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Copy an installation that is one process, while it runs, into a directory.
    Backup(BackupArguments),
    /// Make a data directory of a backup.
    Restore(RestoreArguments),
    /// Announce every document again: after a microservice's database was restored.
    Republish(RepublishArguments),
    /// See the main job work: one agent, one run, one verified callback.
    Demo(DemoArguments),
}

/// `carillon up`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon up --listen 127.0.0.1:8080 --data-dir ./carillon-data\n\n\
    Every setting can also come from a file or from the environment, as CARILLON__HTTP__LISTEN.")]
pub(crate) struct UpArguments {
    /// Where the API listens [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where health, metrics and internal routes listen; never reachable from outside [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print the effective configuration, secrets masked, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// Where an installation keeps what it has.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Databases, bus and keys; made if it is not there.
    #[arg(long, value_name = "DIRECTORY", default_value = "./carillon-data")]
    pub(crate) data_dir: PathBuf,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `carillon bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon bootstrap --org acme --user admin\n  \
    carillon bootstrap --org acme --user admin --url https://carillon.example.com --output json\n\n\
    The organisation is made if it is not there. The key is shown this once.")]
pub(crate) struct BootstrapArguments {
    /// The organisation that the key is for.
    #[arg(long)]
    pub(crate) org: String,
    /// The user that it acts as.
    #[arg(long)]
    pub(crate) user: String,
    /// What the key is called; an organisation has one of each name.
    #[arg(long, default_value = "bootstrap")]
    pub(crate) name: String,
    /// How long it is valid, in days and hours:minutes:seconds, as "90 00:00:00" [default: until it is deleted].
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires_in: Option<String>,
    /// Where the API is [default: http.public_url of the configuration, else http.listen].
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// How to print it: the key alone, or the whole answer.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `carillon token`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon token --user admin --org acme --role tenant_admin --ttl 1h")]
pub(crate) struct TokenArguments {
    /// The user that it is for.
    #[arg(long)]
    pub(crate) user: String,
    /// The organisation that it is for; a platform administrator's has none.
    #[arg(long)]
    pub(crate) org: Option<String>,
    /// What the user may do.
    #[arg(long, value_enum, default_value_t = RoleName::TenantAdmin)]
    pub(crate) role: RoleName,
    /// How long it is valid, as 30m, 1h or 7d.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: std::time::Duration,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A role, as tokens name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum RoleName {
    /// Everything, in every organisation.
    PlatformAdmin,
    /// Everything in the token's organisation.
    TenantAdmin,
    /// Nothing.
    None,
}

/// `carillon cron …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CronCommand {
    /// Print when a crontab fires next.
    Next(CronNextArguments),
}

/// `carillon cron next`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon cron next \"30 2 * * *\" --timezone Europe/Berlin \
    --after 2026-03-28T00:00:00Z --count 3 --output json")]
pub(crate) struct CronNextArguments {
    /// "<minute> <hour> <day of month> <month> <day of week>".
    pub(crate) crontab: String,
    /// The IANA zone that it is read in.
    #[arg(long, default_value = "UTC")]
    pub(crate) timezone: Tz,
    /// Only ticks later than this [default: now].
    #[arg(long, value_name = "RFC 3339")]
    pub(crate) after: Option<DateTime<Utc>>,
    /// How many.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) count: u16,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `carillon verify-signature`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  carillon verify-signature --secret s3cret --signature sha256=0dff37… body.json\n  \
    carillon verify-signature --secret s3cret --id 5b0e… --timestamp 1767225600 --signature v1,g0hM9S… body.json\n\n\
    Exits 0 if the signature is that of the body, 1 if not."
)]
pub(crate) struct VerifySignatureArguments {
    /// The agent's callback secret.
    #[arg(long, env = "CALLBACK_SECRET", hide_env_values = true)]
    pub(crate) secret: String,
    /// The received header X-Hub-Signature-256, or webhook-signature beside an id and a timestamp: its value, or the
    /// whole line.
    #[arg(long)]
    pub(crate) signature: String,
    /// Of a signature of Standard Webhooks: the received header webhook-id.
    #[arg(long, requires = "timestamp")]
    pub(crate) id: Option<String>,
    /// Of a signature of Standard Webhooks: the received header webhook-timestamp.
    #[arg(long, requires = "id")]
    pub(crate) timestamp: Option<String>,
    /// The raw body as received; - for standard input.
    #[arg(default_value = "-")]
    pub(crate) body: PathBuf,
}

/// `carillon demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon demo --keep\n  \
    carillon demo --openai-base-url http://127.0.0.1:11434/v1 --openai-model llama3.2")]
pub(crate) struct DemoArguments {
    /// Go on after the first callback, and show the ticks of every minute until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Ask a real model, at this OpenAI-compatible endpoint.
    #[arg(long, value_name = "URL", env = "OPENAI_BASE_URL")]
    pub(crate) openai_base_url: Option<String>,
    /// Which model.
    #[arg(long, value_name = "NAME", env = "OPENAI_MODEL")]
    pub(crate) openai_model: Option<String>,
    /// The endpoint's API key, if it wants one; given here, others on this machine can see it.
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub(crate) openai_api_key: Option<String>,
}

impl DemoArguments {
    /// Where a real model is to be asked, and which. An empty variable says nothing.
    pub(crate) fn model(&self) -> Option<(&str, &str)> {
        let base_url = self.openai_base_url.as_deref().filter(|url| !url.is_empty())?;
        Some((base_url, self.openai_model.as_deref().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together_and_every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            if command.get_name() != "help" {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example:"), "`{}` shows no example", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
