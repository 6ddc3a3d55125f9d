//! `carillon ledger verify`: whether every tick that there should have been has one run or one reason.

use std::process::ExitCode;

use anyhow::Context;
use chrono::SecondsFormat;
use cron_dispatcher::ledger::{self, Finding, Report};
use service_kit::clock::Clock;

use crate::cli::{LedgerVerifyArguments, Output};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// Verifies, and prints what was found.
pub(crate) fn verify(arguments: &LedgerVerifyArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, Vec::new())?;
    let ticks_days = config.dispatcher.ticks_days;
    let data = DataDir::at(&arguments.place.data_dir);
    let database =
        config.database_that_is_there(arguments.url.as_deref(), &data, |databases| databases.cron_dispatcher_url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = Clock::host().now();
    let report = runtime.block_on(ledger::verify(&database, ticks_days, now)).context("the ledger cannot be read")?;
    print(match arguments.output {
        Output::Json => format!("{}\n", serde_json::to_string(&report)?),
        Output::Text => text(&report),
    })?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report) -> String {
    let lists = [("missing", &report.missing), ("double", &report.double), ("unexplained", &report.unexplained)];
    let mut lines: Vec<String> = Vec::new();
    for (kind, findings) in lists {
        lines.extend(findings.iter().map(|finding| line(kind, finding)));
    }
    lines.push(format!(
        "{} agents, {} ticks: {} missing, {} double, {} unexplained",
        report.agents,
        report.ticks,
        report.missing.len(),
        report.double.len(),
        report.unexplained.len()
    ));
    if report.unverified > 0 {
        lines.push(format!(
            "{} schedules were planned with another time zone database: not verified",
            report.unverified
        ));
    }
    lines.join("\n") + "\n"
}

fn line(kind: &str, Finding { organisation, agent, tick, what }: &Finding) -> String {
    format!("{kind}: agent {agent} of {organisation}, {}: {what}", tick.to_rfc3339_opts(SecondsFormat::Secs, true))
}
