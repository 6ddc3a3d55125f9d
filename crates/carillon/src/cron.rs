//! `carillon cron next`: when a crontab fires.

use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::SecondsFormat;
use model::crontab::{Crontab, CrontabFields};
use service_kit::clock::Clock;

use crate::cli::{CronNextArguments, Output};
use crate::output::print;

/// Prints the next ticks.
pub(crate) fn next(arguments: &CronNextArguments) -> anyhow::Result<ExitCode> {
    let crontab = parse(&arguments.crontab)?;
    let after = arguments.after.unwrap_or_else(|| Clock::host().now());
    let ticks: Vec<_> = crontab.ticks(arguments.timezone, after).take(arguments.count.into()).collect();
    let utc = |tick: &chrono::DateTime<chrono::Utc>| tick.to_rfc3339_opts(SecondsFormat::Secs, true);
    let line = |tick: &chrono::DateTime<chrono::Utc>| {
        let local = tick.with_timezone(&arguments.timezone).format("%a %Y-%m-%d %H:%M %Z");
        format!("{}  {local}\n", utc(tick))
    };
    print(match arguments.output {
        Output::Json => format!("{}\n", serde_json::to_string(&ticks.iter().map(utc).collect::<Vec<_>>())?),
        Output::Text => ticks.iter().map(line).collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the five fields in the order in which crontabs are written.
fn parse(text: &str) -> anyhow::Result<Crontab> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day_of_month, month_of_year, day_of_week] = parts[..] else {
        bail!(
            "a crontab has five fields, `{text}` has {}: \
             \"<minute> <hour> <day of month> <month> <day of week>\"",
            parts.len()
        );
    };
    let fields = CrontabFields {
        minute: minute.to_owned(),
        hour: hour.to_owned(),
        day_of_month: day_of_month.to_owned(),
        month_of_year: month_of_year.to_owned(),
        day_of_week: day_of_week.to_owned(),
    };
    Crontab::parse(&fields).with_context(|| format!("`{text}` is no crontab"))
}
