//! `--migrate`: what brings the database to this version before anything starts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::process::{Command, Output};

fn migrate(url: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cron-dispatcher"));
    command.arg("--migrate").env_clear().env("CARILLON__DATABASE__URL", url);
    // Neither is used, and both have to be there: it is the configuration of the process that is to start.
    command.env("CARILLON__BUS__URL", "amqp://nobody.invalid").env("CARILLON__INTERNAL__KEY", "k".repeat(32));
    command.env("CARILLON__TELEMETRY__FORMAT", "json").output().unwrap()
}

#[test]
fn a_database_is_migrated_once_and_then_found_done() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("dispatcher.db").display());
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let first = migrate(&url);
    assert!(first.status.success() && said(&first).contains("database migrated"), "{first:?}");
    let second = migrate(&url);
    assert!(second.status.success() && !said(&second).contains("database migrated"), "{second:?}");
}

#[test]
fn a_database_that_cannot_be_opened_is_said_in_one_line() {
    let refused = migrate("sqlite:/dev/null/dispatcher.db");
    assert_eq!((refused.status.code(), refused.stderr.iter().filter(|byte| **byte == b'\n').count()), (Some(1), 1));
}
